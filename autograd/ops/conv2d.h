// Dense 3×3 convolution, padding 1, channels last (kernels/conv2d.h).
#pragma once

#include "autograd/tensor.h"

namespace qm {

/// x (B, H, W, in), weight (out, in, 3, 3), bias (out) or undefined → (B, ⌈H/stride⌉, ⌈W/stride⌉, out). Saves x.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, std::int64_t stride);

}  // namespace qm
