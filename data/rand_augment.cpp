#include "data/rand_augment.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numbers>

namespace qm {
namespace {

using Op = RandAugmentOp;

constexpr double kFullLevel = 10;

constexpr RandAugmentChoice kStandard[] = {
    {Op::kAutoContrast, 1}, {Op::kEqualize, 1},    {Op::kInvert, 1}, {Op::kRotate, 1},        {Op::kPosterize, 1},
    {Op::kSolarize, 1},     {Op::kSolarizeAdd, 1}, {Op::kColor, 1},  {Op::kContrast, 1},      {Op::kBrightness, 1},
    {Op::kSharpness, 1},    {Op::kShearX, 1},      {Op::kShearY, 1}, {Op::kTranslateXRel, 1}, {Op::kTranslateYRel, 1}};

constexpr RandAugmentChoice kIncreasing[] = {{Op::kAutoContrast, 1},
                                             {Op::kEqualize, 1},
                                             {Op::kInvert, 1},
                                             {Op::kRotate, 1},
                                             {Op::kPosterizeIncreasing, 1},
                                             {Op::kSolarizeIncreasing, 1},
                                             {Op::kSolarizeAdd, 1},
                                             {Op::kColorIncreasing, 1},
                                             {Op::kContrastIncreasing, 1},
                                             {Op::kBrightnessIncreasing, 1},
                                             {Op::kSharpnessIncreasing, 1},
                                             {Op::kShearX, 1},
                                             {Op::kShearY, 1},
                                             {Op::kTranslateXRel, 1},
                                             {Op::kTranslateYRel, 1}};

constexpr RandAugmentChoice kWeighted[] = {{Op::kRotate, 3},
                                           {Op::kShearX, 2},
                                           {Op::kShearY, 2},
                                           {Op::kTranslateXRel, 1},
                                           {Op::kTranslateYRel, 1},
                                           {Op::kColorIncreasing, 0.25},
                                           {Op::kSharpnessIncreasing, 0.25},
                                           {Op::kAutoContrast, 0.25},
                                           {Op::kSolarizeIncreasing, 0.05},
                                           {Op::kSolarizeAdd, 0.05},
                                           {Op::kContrastIncreasing, 0.05},
                                           {Op::kBrightnessIncreasing, 0.05},
                                           {Op::kEqualize, 0.05},
                                           {Op::kPosterizeIncreasing, 0.05},
                                           {Op::kInvert, 0.05}};

constexpr RandAugmentChoice k3a[] = {{Op::kSolarizeIncreasing, 1}, {Op::kDesaturate, 1}, {Op::kGaussianBlur, 1}};

constexpr RandAugmentChoice k3aWeighted[] = {{Op::kSolarizeIncreasing, 6},
                                             {Op::kDesaturate, 6},
                                             {Op::kGaussianBlur, 6},
                                             {Op::kRotate, 3},
                                             {Op::kShearX, 2},
                                             {Op::kShearY, 2},
                                             {Op::kPosterizeIncreasing, 1},
                                             {Op::kAutoContrast, 1},
                                             {Op::kColorIncreasing, 1},
                                             {Op::kSharpnessIncreasing, 1},
                                             {Op::kContrastIncreasing, 1},
                                             {Op::kBrightnessIncreasing, 1},
                                             {Op::kEqualize, 1},
                                             {Op::kInvert, 1}};

/// A factor that moves away from 1, the image as it is, as the level rises.
double increasing_factor(double share, bool negate) {
  const double change = share * 0.9;
  return std::max(0.1, 1.0 + (negate ? -change : change));
}

double between(double low, double high, double share) {
  return std::clamp(low + (high - low) * share, low, high);
}

/// The place of `word`, uniform over 32 bits, in the running sum of weights; those of `taken` are left out.
std::size_t choose(std::span<const RandAugmentChoice> choices, std::span<const std::size_t> taken, std::uint32_t word) {
  const auto is_free = [&](std::size_t i) { return std::find(taken.begin(), taken.end(), i) == taken.end(); };
  double total = 0;
  std::size_t last = 0;
  for (std::size_t i = 0; i < choices.size(); ++i) total += is_free(i) ? choices[i].weight : 0;
  double rest = total * uniform_open_double(word, 0);
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (!is_free(i)) continue;
    last = i;
    rest -= choices[i].weight;
    if (rest < 0) break;
  }
  return last;
}

double draw_level(const RandAugmentConfig& config, const PhiloxBlock& block) {
  double level = config.magnitude;
  if (std::isinf(config.magnitude_std)) {
    level = uniform_between(0, config.magnitude, block.word[0]);
  } else if (config.magnitude_std > 0) {
    const double radius = std::sqrt(-2.0 * std::log(uniform_open_double(block.word[0], 0)));
    const double turn = 2.0 * std::numbers::pi * uniform_open_double(block.word[1], 0);
    level += config.magnitude_std * radius * std::cos(turn);  // Box–Muller
  }
  return std::clamp(level, 0.0, config.magnitude_max);
}

/// To 15 decimals, so that a last bit of cos() that differs between machines does not matter.
double rounded(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.15f", value);
  return std::strtod(text, nullptr);
}

/// Of a rotation by `degrees` counter-clockwise around the middle of an image.
std::array<double, 6> rotation_matrix(double degrees, std::int64_t height, std::int64_t width) {
  const double angle = -std::fmod(std::fmod(degrees, 360.0) + 360.0, 360.0) * (std::numbers::pi / 180.0);
  const double cosine = rounded(std::cos(angle)), sine = rounded(std::sin(angle));
  const double x = static_cast<double>(width) / 2, y = static_cast<double>(height) / 2;
  return {cosine,
          sine,
          cosine * -x + sine * -y + x,
          rounded(-std::sin(angle)),
          cosine,
          rounded(-std::sin(angle)) * -x + cosine * -y + y};
}

}  // namespace

std::string_view to_string(RandAugmentOp op) {
  static constexpr std::string_view kNames[] = {"AutoContrast",
                                                "Equalize",
                                                "Invert",
                                                "Rotate",
                                                "Posterize",
                                                "PosterizeIncreasing",
                                                "Solarize",
                                                "SolarizeIncreasing",
                                                "SolarizeAdd",
                                                "Color",
                                                "ColorIncreasing",
                                                "Contrast",
                                                "ContrastIncreasing",
                                                "Brightness",
                                                "BrightnessIncreasing",
                                                "Sharpness",
                                                "SharpnessIncreasing",
                                                "ShearX",
                                                "ShearY",
                                                "TranslateXRel",
                                                "TranslateYRel",
                                                "Desaturate",
                                                "GaussianBlur"};
  return kNames[static_cast<std::size_t>(op)];
}

std::span<const RandAugmentChoice> choices_of(RandAugmentSet set) {
  switch (set) {
    case RandAugmentSet::kStandard:
      return kStandard;
    case RandAugmentSet::kIncreasing:
      return kIncreasing;
    case RandAugmentSet::kWeighted:
      return kWeighted;
    case RandAugmentSet::k3a:
      return k3a;
    case RandAugmentSet::k3aWeighted:
      break;
  }
  return k3aWeighted;
}

bool draws_without_replacement(RandAugmentSet set) {
  return set == RandAugmentSet::kWeighted || set == RandAugmentSet::k3aWeighted;
}

bool may_blur(const RandAugmentConfig& config) {
  return config.layers > 0 && std::ranges::any_of(choices_of(config.set), [](const RandAugmentChoice& choice) {
           return choice.op == RandAugmentOp::kGaussianBlur;
         });
}

PixelOp pixel_op_at(RandAugmentOp op, double level, bool negate, std::int64_t height, std::int64_t width) {
  using Kind = PixelOpKind;
  const double share = level / kFullLevel;
  const double sign = negate ? -1 : 1;
  const auto affine = [](std::array<double, 6> matrix) { return PixelOp{.kind = Kind::kAffine, .matrix = matrix}; };
  const auto whole = [](double value) { return static_cast<double>(static_cast<std::int64_t>(value)); };
  const double bits = whole(share * 4), threshold = std::min(256.0, whole(share * 256));
  switch (op) {
    case Op::kAutoContrast:
      return {.kind = Kind::kAutoContrast};
    case Op::kEqualize:
      return {.kind = Kind::kEqualize};
    case Op::kInvert:
      return {.kind = Kind::kInvert};
    case Op::kRotate:
      return affine(rotation_matrix(sign * (share * 30), height, width));
    case Op::kPosterize:
      return {.kind = Kind::kPosterize, .argument = std::min(bits, 8.0)};
    case Op::kPosterizeIncreasing:
      return {.kind = Kind::kPosterize, .argument = std::max(4 - bits, 0.0)};
    case Op::kSolarize:
      return {.kind = Kind::kSolarize, .argument = threshold};
    case Op::kSolarizeIncreasing:
      return {.kind = Kind::kSolarize, .argument = 256 - threshold};
    case Op::kSolarizeAdd:
      return {.kind = Kind::kSolarizeAdd, .argument = std::min(128.0, whole(share * 110))};
    case Op::kColor:
      return {.kind = Kind::kColor, .argument = share * 1.8 + 0.1};
    case Op::kColorIncreasing:
      return {.kind = Kind::kColor, .argument = increasing_factor(share, negate)};
    case Op::kContrast:
      return {.kind = Kind::kContrast, .argument = share * 1.8 + 0.1};
    case Op::kContrastIncreasing:
      return {.kind = Kind::kContrast, .argument = increasing_factor(share, negate)};
    case Op::kBrightness:
      return {.kind = Kind::kBrightness, .argument = share * 1.8 + 0.1};
    case Op::kBrightnessIncreasing:
      return {.kind = Kind::kBrightness, .argument = increasing_factor(share, negate)};
    case Op::kSharpness:
      return {.kind = Kind::kSharpness, .argument = share * 1.8 + 0.1};
    case Op::kSharpnessIncreasing:
      return {.kind = Kind::kSharpness, .argument = increasing_factor(share, negate)};
    case Op::kShearX:
      return affine({1, sign * (share * 0.3), 0, 0, 1, 0});
    case Op::kShearY:
      return affine({1, 0, 0, sign * (share * 0.3), 1, 0});
    case Op::kTranslateXRel:
      return affine({1, 0, sign * (share * 0.45) * static_cast<double>(width), 0, 1, 0});
    case Op::kTranslateYRel:
      return affine({1, 0, 0, 0, 1, sign * (share * 0.45) * static_cast<double>(height)});
    case Op::kDesaturate:
      return {.kind = Kind::kColor, .argument = std::clamp(1.0 - between(0.5, 1.0, share), 0.0, 1.0)};
    case Op::kGaussianBlur:
      break;
  }
  return {.kind = Kind::kBlur, .argument = between(0.1, 2.0, share)};
}

std::vector<DrawnOp> draw_rand_augment(const RandAugmentConfig& config, const AugmentKey& key, std::int64_t height,
                                       std::int64_t width, Interpolation interpolation, bool random_interpolation) {
  const std::span<const RandAugmentChoice> choices = choices_of(config.set);
  std::vector<DrawnOp> drawn;
  std::vector<std::size_t> taken;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const auto draw = static_cast<std::uint32_t>(2 * layer);
    const PhiloxBlock choice = draw_block(key, AugmentStream::kRandAugment, draw);
    const PhiloxBlock details = draw_block(key, AugmentStream::kRandAugment, draw + 1);
    const std::size_t chosen = choose(choices, taken, choice.word[0]);
    if (draws_without_replacement(config.set)) taken.push_back(chosen);
    if (uniform_open_double(choice.word[1], 0) >= config.probability) continue;
    const RandAugmentOp op = choices[chosen].op;
    const double level = draw_level(config, details);
    const bool negate = (choice.word[2] >> 31) != 0;
    PixelOp pixel_op = pixel_op_at(op, level, negate, height, width);
    pixel_op.fill = config.fill;
    pixel_op.interpolation = interpolation;
    if (random_interpolation) {
      pixel_op.interpolation = (choice.word[3] >> 31) != 0 ? Interpolation::kBicubic : Interpolation::kBilinear;
    }
    drawn.push_back({op, level, pixel_op});
  }
  return drawn;
}

}  // namespace qm
