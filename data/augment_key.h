// Who an augmentation is drawn for, and the random numbers that this gives.
#pragma once

#include <cstdint>

#include "kernels/base/philox.h"

namespace qm {

/// Nothing else enters a sample's augmentation, so that it does not change with ranks or threads.
struct AugmentKey {
  std::uint64_t seed = 0;
  std::uint32_t epoch = 0;
  std::uint32_t position = 0;  ///< in the epoch's order
};

/// The `minor` part of the keys: one stream an operation, so that switching one on or off leaves the others' draws as
/// they were. Fixed, as changing one changes every run.
enum class AugmentStream : std::uint32_t {
  kCrop = 0,
  kFlip = 1,
  kInterpolation = 2,
  kRandAugment = 3,
  kColorJitter = 4,
  kErasing = 5,
  kErasingNoise = 256,  ///< and one more a box
};

inline PhiloxBlock draw_block(const AugmentKey& key, AugmentStream stream, std::uint32_t draw = 0) {
  return philox(key.seed, RandomPurpose::kAugmentation, key.epoch, static_cast<std::uint32_t>(stream), key.position,
                draw);
}

inline double uniform_between(double low, double high, std::uint32_t word) {
  return low + (high - low) * uniform_open_double(word, 0);
}

/// A uniform integer in [0, bound).
inline std::int64_t uniform_below(std::int64_t bound, std::uint32_t word) {
  return static_cast<std::int64_t>((static_cast<std::uint64_t>(word) * static_cast<std::uint64_t>(bound)) >> 32);
}

}  // namespace qm
