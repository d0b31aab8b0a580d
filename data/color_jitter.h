// Colour jitter: brightness, contrast, saturation and hue change by random factors, in a random order (torchvision's
// rules).
#pragma once

#include <array>
#include <vector>

#include "data/augment_key.h"
#include "kernels/pixel_ops.h"

namespace qm {

struct ColorJitterConfig {
  /// Brightness, contrast, saturation: factors are uniform in [max(0, 1 − s), 1 + s]. Hue: turns in [−s, s], s ≤ ½.
  /// 0 leaves one out.
  std::array<double, 4> strength{};
  double probability = 1;  ///< that an image is changed at all
};

/// What to apply to an image, in order.
std::vector<PixelOp> draw_color_jitter(const ColorJitterConfig& config, const AugmentKey& key);

}  // namespace qm
