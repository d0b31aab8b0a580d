// LayerNorm over the last axis (kernels/layer_norm.h).
#pragma once

#include "autograd/tensor.h"

namespace qm {

/// x (…, C), weight and bias (C) → (…, C). Saves x, mean and rstd of each row.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias);

}  // namespace qm
