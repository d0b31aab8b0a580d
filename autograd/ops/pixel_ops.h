// RandAugment's and colour jitter's operations on a batch of images (kernels/pixel_ops.h). No gradient.
#pragma once

#include "autograd/tensor.h"
#include "kernels/pixel_ops.h"

namespace qm {

/// images (B, H, W, 3) uint8, ops uint8 (B, operations · sizeof(PixelOp)) where the images are → the images with each
/// one's operations done, in a tensor of its own. `blurs`: PixelOpKind::kBlur may be among them; else it does nothing.
Tensor apply_pixel_ops(const Tensor& images, const Tensor& ops, bool blurs);

}  // namespace qm
