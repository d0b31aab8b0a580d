// Random erasing: which boxes of an image are erased (timm's rules). What they are filled with, after normalisation, is
// image_mix's business.
#pragma once

#include <cstdint>
#include <span>

#include "data/augment_key.h"
#include "kernels/erased_box.h"

namespace qm {

struct ErasingConfig {
  double probability = 0;  ///< that an image has boxes erased; 0 = off
  EraseFill fill = EraseFill::kPixel;
  std::int64_t count = 1;  ///< at most this many boxes an image, their number uniform; an area is shared among them
};

/// Draws the boxes of one image of height × width into `boxes`, `count` of them; those left over are empty. Each box
/// tries up to ten times an area of 0.02 to 1/3 of the image, shared among the image's boxes, and a log-uniform aspect
/// ratio of 0.3 to 1/0.3 that are smaller than the image; it has itself the key of its noise.
void draw_erasing(const ErasingConfig& config, const AugmentKey& key, std::int64_t height, std::int64_t width,
                  std::span<ErasedBox> boxes);

}  // namespace qm
