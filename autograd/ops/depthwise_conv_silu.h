// Depthwise 3×3 convolution + SiLU, zero-padded to a larger map (kernels/depthwise_conv_silu.h).
#pragma once

#include "autograd/tensor.h"

namespace qm {

/// x (B, H, W, D), weight (D, 1, 3, 3) → (B, out_height, out_width, D), zeros beyond H × W. Saves x.
Tensor depthwise_conv_silu(const Tensor& x, const Tensor& weight, std::int64_t out_height, std::int64_t out_width);

}  // namespace qm
