// RandAugment: a few random operations an image, by timm's rules.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/augment_key.h"
#include "kernels/pixel_ops.h"

namespace qm {

enum class RandAugmentOp {
  kAutoContrast,
  kEqualize,
  kInvert,
  kRotate,
  kPosterize,
  kPosterizeIncreasing,
  kSolarize,
  kSolarizeIncreasing,
  kSolarizeAdd,
  kColor,
  kColorIncreasing,
  kContrast,
  kContrastIncreasing,
  kBrightness,
  kBrightnessIncreasing,
  kSharpness,
  kSharpnessIncreasing,
  kShearX,
  kShearY,
  kTranslateXRel,
  kTranslateYRel,
  kDesaturate,
  kGaussianBlur,
};

/// timm's name of an operation.
std::string_view to_string(RandAugmentOp op);

/// Which operations an image's are chosen from.
enum class RandAugmentSet {
  kStandard,    ///< 15 operations, equally likely
  kIncreasing,  ///< the same, each the more severe the higher the magnitude
  kWeighted,    ///< timm's "weights": 15 of unequal weight, none twice in an image
  k3a,          ///< solarize, desaturate, blur
  k3aWeighted,  ///< timm's "3aw"
};

struct RandAugmentChoice {
  RandAugmentOp op;
  double weight;
};

std::span<const RandAugmentChoice> choices_of(RandAugmentSet set);
/// Whether an operation comes at most once an image: true of the weighted sets.
bool draws_without_replacement(RandAugmentSet set);

struct RandAugmentConfig {
  std::int64_t layers = 0;  ///< operations chosen an image; 0 = off
  RandAugmentSet set = RandAugmentSet::kIncreasing;
  double probability = 0.5;            ///< that a chosen operation is applied
  double magnitude = 10;               ///< mean level
  double magnitude_std = 0;            ///< of normal noise on it; infinite: uniform in [0, magnitude] instead
  double magnitude_max = 10;           ///< levels are clipped to [0, magnitude_max]
  std::array<std::uint8_t, 3> fill{};  ///< what geometric operations show from outside the image
};

/// The operation at a level (10 is timm's full strength), with its argument: `negate` turns those around that have a
/// sign. Levels above 10 go on beyond the usual ranges.
PixelOp pixel_op_at(RandAugmentOp op, double level, bool negate, std::int64_t height, std::int64_t width);

/// Whether PixelOpKind::kBlur can be among what is drawn.
bool may_blur(const RandAugmentConfig& config);

/// An operation that was drawn, and at which level.
struct DrawnOp {
  RandAugmentOp op;
  double level;
  PixelOp pixel_op;
};

/// The operations to apply to an image of height × width, in order; those that probability left out are not there.
/// Geometric ones take `interpolation`, or with `random_interpolation` each one of the two at random.
std::vector<DrawnOp> draw_rand_augment(const RandAugmentConfig& config, const AugmentKey& key, std::int64_t height,
                                       std::int64_t width, Interpolation interpolation, bool random_interpolation);

}  // namespace qm
