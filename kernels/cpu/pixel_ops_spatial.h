// The parts of kernels/pixel_ops.h in which a pixel depends on others around it.
#pragma once

#include "kernels/pixel_ops.h"

namespace qm::cpu {

/// `out` becomes (height, width, 3): each pixel the mean of the 3×3 around it, itself counted five times; the outermost
/// pixels stay as they are.
void smooth(const std::uint8_t* pixels, std::int64_t height, std::int64_t width, std::vector<std::uint8_t>& out);

void blur(double deviation, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
          std::vector<std::uint8_t>& scratch);

void transform_affine(const PixelOp& op, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
                      std::vector<std::uint8_t>& scratch);

}  // namespace qm::cpu
