// A box of an image whose normalised pixels give way to noise (random erasing), and that noise: a function of the box's
// key and the pixel's place alone, the same on CPU and GPU up to the rounding of log and cos.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/base/philox.h"

namespace qm {

enum class EraseFill : std::int32_t {
  kConst = 0,  ///< 0, the mean colour
  kRand = 1,   ///< one normal number a channel, for the whole box
  kPixel = 2,  ///< one a value
};

/// Rows [top, bottom) × columns [left, right); empty by default.
struct ErasedBox {
  std::uint64_t seed = 0;
  std::uint32_t epoch = 0, position = 0, stream = 0;  ///< with the seed, the key of its noise
  EraseFill fill = EraseFill::kConst;
  std::int32_t top = 0, bottom = 0, left = 0, right = 0;
};

/// The normalised value of a channel of the pixel at (i, j), inside the box, of an image of `width` columns.
QM_HOST_DEVICE float erased_value(const ErasedBox& box, std::int64_t i, std::int64_t j, std::int64_t width,
                                  int channel) {
  if (box.fill == EraseFill::kConst) return 0.0f;
  const auto pixel = box.fill == EraseFill::kPixel ? static_cast<std::uint32_t>(i * width + j) : 0u;
  const PhiloxBlock random = philox(box.seed, RandomPurpose::kAugmentation, box.epoch, box.stream, box.position, pixel);
  // Box–Muller: the first pair of words gives two channels, the second the third.
  const int pair = channel / 2;
  const float radius = sqrtf(-2.0f * logf(uniform_open(random.word[2 * pair])));
  const float turn = 6.28318530718f * uniform_open(random.word[2 * pair + 1]);
  return radius * (channel % 2 == 0 ? cosf(turn) : sinf(turn));
}

/// The value that the boxes give to a channel of a pixel (later ones over earlier ones), or `value` where none does.
template <class Value>
QM_HOST_DEVICE Value erased_or(Value value, const ErasedBox* boxes, std::int64_t count, std::int64_t i, std::int64_t j,
                               std::int64_t width, int channel) {
  for (std::int64_t b = count - 1; b >= 0; --b) {
    const ErasedBox& box = boxes[b];
    if (i >= box.top && i < box.bottom && j >= box.left && j < box.right) {
      return static_cast<Value>(erased_value(box, i, j, width, channel));
    }
  }
  return value;
}

}  // namespace qm
