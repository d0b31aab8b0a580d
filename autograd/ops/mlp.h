// Multilayer perceptron over the last axis: linear layers with a GELU between each two (kernels/linear_gelu.h).
#pragma once

#include <vector>

#include "autograd/tensor.h"

namespace qm {

struct MlpLayer {
  Tensor weight;  ///< (out, in)
  Tensor bias;    ///< (out)
};

/// x (…, in of the first layer) → (…, out of the last). Saves x, and of every layer but the last what goes into its
/// GELU and what comes out.
Tensor mlp(const Tensor& x, const std::vector<MlpLayer>& layers);

}  // namespace qm
