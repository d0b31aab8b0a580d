// gelu(x + b), the exact erf form (kernels/bias_gelu.h).
#pragma once

#include "autograd/tensor.h"

namespace qm {

/// x (…, channels), bias (channels) or undefined → (…, channels). Saves x.
Tensor bias_gelu(const Tensor& x, const Tensor& bias);

}  // namespace qm
