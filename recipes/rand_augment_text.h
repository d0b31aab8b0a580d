// timm's way of writing RandAugment: "rand-m9-mstd0.5-inc1".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qm {

/// The parts of such a text, which begins with "rand" and goes on with any of these, in any order, each after a '-':
struct RandAugmentText {
  std::int64_t magnitude = 10;      ///< m: mean level, 10 being full strength
  std::int64_t layers = 2;          ///< n: operations an image
  double probability = 0.5;         ///< p: that an operation chosen is applied
  double magnitude_std = 0;         ///< mstd: of normal noise on the level; above 100, infinite: uniform in [0, m]
  std::int64_t magnitude_max = 10;  ///< mmax: upper end of levels; 0 is 10
  bool increasing = false;          ///< inc: operations that are the more severe the higher the level
  std::string set{};                 ///< t: "", "weights", "3a", "3aw": which operations

  friend bool operator==(const RandAugmentText&, const RandAugmentText&) = default;
};

/// Throws ConfigError that names the part which is wrong. A part without its number, one given twice and an unknown set
/// are errors too, which timm passes over silently.
RandAugmentText parse_rand_augment(std::string_view text);

}  // namespace qm
