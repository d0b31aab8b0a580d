// y = x Wᵀ + b over the last axis (kernels/linear.h).
#pragma once

#include "autograd/tensor.h"

namespace qm {

/// x (…, in), weight (out, in), bias (out) or undefined → (…, out). Saves x.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);

}  // namespace qm
