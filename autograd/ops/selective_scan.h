// The general selective scan (kernels/selective_scan.h).
#pragma once

#include "autograd/tensor.h"

namespace qm {

struct SelectiveScanInputs {
  Tensor u, delta;    ///< (batch, L, K, D)
  Tensor A;           ///< (K·D, N), negative
  Tensor B, C;        ///< (batch, L, K, N)
  Tensor D;           ///< (K·D)
  Tensor delta_bias;  ///< (K·D)
};

/// → y (batch, L, K, D). Saves its inputs.
Tensor selective_scan(const SelectiveScanInputs& inputs);

}  // namespace qm
