#include "data/rand_augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <set>

namespace qm {
namespace {

using Op = RandAugmentOp;

constexpr std::int64_t kHeight = 100, kWidth = 200;
constexpr int kDraws = 100000;

std::vector<DrawnOp> draw(const RandAugmentConfig& config, std::uint32_t position) {
  return draw_rand_augment(config, {9, 4, position}, kHeight, kWidth, Interpolation::kBicubic, false);
}

/// What timm passes to the operation.
double argument_of(Op op, const PixelOp& pixel_op) {
  switch (op) {
    case Op::kRotate:
      return -std::atan2(pixel_op.matrix[3], pixel_op.matrix[0]) * -180 / std::numbers::pi;
    case Op::kShearX:
      return pixel_op.matrix[1];
    case Op::kShearY:
      return pixel_op.matrix[3];
    case Op::kTranslateXRel:
      return pixel_op.matrix[2] / kWidth;
    case Op::kTranslateYRel:
      return pixel_op.matrix[5] / kHeight;
    case Op::kDesaturate:
      return 1 - pixel_op.argument;
    default:
      return pixel_op.argument;
  }
}

// timm 1.0's functions. That their results are PIL's is the kernels' test.
TEST(data, rand_augment_operations_are_those_of_timm) {
  using Kind = PixelOpKind;
  const std::map<Op, Kind> kinds = {
      {Op::kAutoContrast, Kind::kAutoContrast},
      {Op::kEqualize, Kind::kEqualize},
      {Op::kInvert, Kind::kInvert},
      {Op::kRotate, Kind::kAffine},
      {Op::kPosterize, Kind::kPosterize},
      {Op::kPosterizeIncreasing, Kind::kPosterize},
      {Op::kSolarize, Kind::kSolarize},
      {Op::kSolarizeIncreasing, Kind::kSolarize},
      {Op::kSolarizeAdd, Kind::kSolarizeAdd},
      {Op::kColor, Kind::kColor},
      {Op::kColorIncreasing, Kind::kColor},
      {Op::kContrast, Kind::kContrast},
      {Op::kContrastIncreasing, Kind::kContrast},
      {Op::kBrightness, Kind::kBrightness},
      {Op::kBrightnessIncreasing, Kind::kBrightness},
      {Op::kSharpness, Kind::kSharpness},
      {Op::kSharpnessIncreasing, Kind::kSharpness},
      {Op::kShearX, Kind::kAffine},
      {Op::kShearY, Kind::kAffine},
      {Op::kTranslateXRel, Kind::kAffine},
      {Op::kTranslateYRel, Kind::kAffine},
      {Op::kDesaturate, Kind::kColor},
      {Op::kGaussianBlur, Kind::kBlur},
  };
  EXPECT_EQ(kinds.size(), static_cast<std::size_t>(Op::kGaussianBlur) + 1);
  for (const auto& [op, kind] : kinds) {
    for (const double level : {0.0, 4.5, 10.0}) {
      EXPECT_EQ(pixel_op_at(op, level, false, kHeight, kWidth).kind, kind) << to_string(op) << " at " << level;
      EXPECT_EQ(pixel_op_at(op, level, true, kHeight, kWidth).kind, kind) << to_string(op) << " at " << level;
    }
  }
}

// timm 1.0's arguments at levels 0 to 10; the three operations without one are left out.
TEST(data, rand_augment_arguments_are_those_of_timm) {
  struct Case {
    Op op;
    bool negate;
    std::array<double, 11> arguments;
  };
  const Case cases[] = {
      {Op::kRotate, false, {0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0, 27.0, 30.0}},
      {Op::kRotate, true, {0.0, -3.0, -6.0, -9.0, -12.0, -15.0, -18.0, -21.0, -24.0, -27.0, -30.0}},
      {Op::kPosterize, false, {0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 4.0}},
      {Op::kSolarize, false, {0.0, 25.0, 51.0, 76.0, 102.0, 128.0, 153.0, 179.0, 204.0, 230.0, 256.0}},
      {Op::kSolarizeAdd, false, {0.0, 11.0, 22.0, 33.0, 44.0, 55.0, 66.0, 77.0, 88.0, 99.0, 110.0}},
      {Op::kColor, false, {0.1, 0.28, 0.46, 0.64, 0.82, 1.0, 1.18, 1.36, 1.54, 1.72, 1.9}},
      {Op::kContrast, false, {0.1, 0.28, 0.46, 0.64, 0.82, 1.0, 1.18, 1.36, 1.54, 1.72, 1.9}},
      {Op::kBrightness, false, {0.1, 0.28, 0.46, 0.64, 0.82, 1.0, 1.18, 1.36, 1.54, 1.72, 1.9}},
      {Op::kSharpness, false, {0.1, 0.28, 0.46, 0.64, 0.82, 1.0, 1.18, 1.36, 1.54, 1.72, 1.9}},
      {Op::kShearX, false, {0.0, 0.03, 0.06, 0.09, 0.12, 0.15, 0.18, 0.21, 0.24, 0.27, 0.3}},
      {Op::kShearX, true, {0.0, -0.03, -0.06, -0.09, -0.12, -0.15, -0.18, -0.21, -0.24, -0.27, -0.3}},
      {Op::kShearY, false, {0.0, 0.03, 0.06, 0.09, 0.12, 0.15, 0.18, 0.21, 0.24, 0.27, 0.3}},
      {Op::kShearY, true, {0.0, -0.03, -0.06, -0.09, -0.12, -0.15, -0.18, -0.21, -0.24, -0.27, -0.3}},
      {Op::kTranslateXRel, false, {0.0, 0.045, 0.09, 0.135, 0.18, 0.225, 0.27, 0.315, 0.36, 0.405, 0.45}},
      {Op::kTranslateXRel, true, {0.0, -0.045, -0.09, -0.135, -0.18, -0.225, -0.27, -0.315, -0.36, -0.405, -0.45}},
      {Op::kTranslateYRel, false, {0.0, 0.045, 0.09, 0.135, 0.18, 0.225, 0.27, 0.315, 0.36, 0.405, 0.45}},
      {Op::kTranslateYRel, true, {0.0, -0.045, -0.09, -0.135, -0.18, -0.225, -0.27, -0.315, -0.36, -0.405, -0.45}},
      {Op::kPosterizeIncreasing, false, {4.0, 4.0, 4.0, 3.0, 3.0, 2.0, 2.0, 2.0, 1.0, 1.0, 0.0}},
      {Op::kSolarizeIncreasing, false, {256.0, 231.0, 205.0, 180.0, 154.0, 128.0, 103.0, 77.0, 52.0, 26.0, 0.0}},
      {Op::kColorIncreasing, false, {1.0, 1.09, 1.18, 1.27, 1.36, 1.45, 1.54, 1.63, 1.72, 1.81, 1.9}},
      {Op::kColorIncreasing, true, {1.0, 0.91, 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, 0.28, 0.19, 0.1}},
      {Op::kContrastIncreasing, false, {1.0, 1.09, 1.18, 1.27, 1.36, 1.45, 1.54, 1.63, 1.72, 1.81, 1.9}},
      {Op::kContrastIncreasing, true, {1.0, 0.91, 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, 0.28, 0.19, 0.1}},
      {Op::kBrightnessIncreasing, false, {1.0, 1.09, 1.18, 1.27, 1.36, 1.45, 1.54, 1.63, 1.72, 1.81, 1.9}},
      {Op::kBrightnessIncreasing, true, {1.0, 0.91, 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, 0.28, 0.19, 0.1}},
      {Op::kSharpnessIncreasing, false, {1.0, 1.09, 1.18, 1.27, 1.36, 1.45, 1.54, 1.63, 1.72, 1.81, 1.9}},
      {Op::kSharpnessIncreasing, true, {1.0, 0.91, 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, 0.28, 0.19, 0.1}},
      {Op::kDesaturate, false, {0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0}},
      {Op::kGaussianBlur, false, {0.1, 0.29, 0.48, 0.67, 0.86, 1.05, 1.24, 1.43, 1.62, 1.81, 2.0}},
  };
  for (const auto& c : cases) {
    for (int level = 0; level <= 10; ++level) {
      const PixelOp pixel_op = pixel_op_at(c.op, level, c.negate, kHeight, kWidth);
      EXPECT_NEAR(argument_of(c.op, pixel_op), c.arguments[level], 1e-12)
          << to_string(c.op) << " at " << level << (c.negate ? ", negated" : "");
    }
  }
}

struct Statistics {
  std::map<std::string, double> shares;  // of images, an operation applied
  std::array<double, 4> applied{};       // share of images with 0, 1, … operations
  std::vector<double> levels;            // sorted

  double quantile(double q) const { return levels[static_cast<std::size_t>(q * static_cast<double>(levels.size()))]; }
};

Statistics measure(const RandAugmentConfig& config) {
  Statistics statistics;
  for (int position = 0; position < kDraws; ++position) {
    const auto ops = draw(config, static_cast<std::uint32_t>(position));
    statistics.applied[ops.size()] += 1.0 / kDraws;
    for (const DrawnOp& op : ops) {
      statistics.shares[std::string(to_string(op.op))] += 1.0 / kDraws;
      statistics.levels.push_back(op.level);
    }
  }
  std::sort(statistics.levels.begin(), statistics.levels.end());
  return statistics;
}

/// `expected` was counted in 1e5 draws too: the difference of two counts, of variance 2 p / n.
void expect_share(double share, double expected, const std::string& what) {
  EXPECT_NEAR(share, expected, 4.5 * std::sqrt(2 * expected / kDraws) + 1e-9) << what;
}

// Counts and quantiles of 1e5 draws of timm's rand-m9-mstd0.5-inc1.
TEST(data, rand_augment_draws_like_timm) {
  const Statistics drawn = measure({.layers = 2, .magnitude = 9, .magnitude_std = 0.5});
  EXPECT_EQ(drawn.shares.size(), 15u);
  for (const auto& [name, share] : drawn.shares) expect_share(share, 1.0 / 15, name);
  expect_share(drawn.applied[0], 0.24993, "none");
  expect_share(drawn.applied[1], 0.50151, "one");
  expect_share(drawn.applied[2], 0.24856, "two");
  const std::pair<double, double> quantiles[] = {{0.01, 7.827},  {0.05, 8.1779}, {0.25, 8.6609},
                                                 {0.50, 8.9991}, {0.75, 9.3352}, {0.95, 9.82}};
  for (const auto& [q, level] : quantiles) EXPECT_NEAR(drawn.quantile(q), level, 0.025) << q;
  EXPECT_EQ(drawn.quantile(0.99), 10);
  const auto highest = std::count(drawn.levels.begin(), drawn.levels.end(), 10.0);
  EXPECT_NEAR(static_cast<double>(highest) / static_cast<double>(drawn.levels.size()), 0.02166, 0.003);
}

// rand-m7-n3-p0.3-mstd101-mmax20: levels uniform in [0, 7].
TEST(data, rand_augment_draws_uniform_levels_like_timm) {
  const Statistics drawn = measure({.layers = 3,
                                    .set = RandAugmentSet::kStandard,
                                    .probability = 0.3,
                                    .magnitude = 7,
                                    .magnitude_std = std::numeric_limits<double>::infinity(),
                                    .magnitude_max = 20});
  for (const auto& [name, share] : drawn.shares) expect_share(share, 0.06, name);
  for (int i = 0; i < 4; ++i) {
    expect_share(drawn.applied[i], std::array{0.34676, 0.43704, 0.18827, 0.02793}[i], std::to_string(i));
  }
  for (const double q : {0.05, 0.25, 0.5, 0.75, 0.95}) EXPECT_NEAR(drawn.quantile(q), 7 * q, 0.06) << q;
}

// rand-m9-n2-mstd1-tweights and rand-m5-n3-p0.8-mstd0.5-t3aw, by counts of timm's: unequal weights, no operation twice.
TEST(data, rand_augment_draws_weighted_sets_like_timm) {
  const Statistics weighted =
      measure({.layers = 2, .set = RandAugmentSet::kWeighted, .magnitude = 9, .magnitude_std = 1});
  expect_share(weighted.shares.at("Rotate"), 0.27197, "Rotate");
  expect_share(weighted.shares.at("ShearX"), 0.19705, "ShearX");
  expect_share(weighted.shares.at("TranslateXRel"), 0.10734, "TranslateXRel");
  expect_share(weighted.shares.at("ColorIncreasing"), 0.02555, "ColorIncreasing");
  expect_share(weighted.shares.at("Invert"), 0.00518, "Invert");

  // rand-n1-t3a: each with probability ½ · ⅓.
  const Statistics even = measure({.layers = 1, .set = RandAugmentSet::k3a});
  for (const char* name : {"SolarizeIncreasing", "Desaturate", "GaussianBlur"}) {
    expect_share(even.shares.at(name), 1.0 / 6, name);
  }

  const RandAugmentConfig config{
      .layers = 3, .set = RandAugmentSet::k3aWeighted, .probability = 0.8, .magnitude = 5, .magnitude_std = 0.5};
  const Statistics three = measure(config);
  expect_share(three.shares.at("Desaturate"), 0.40036, "Desaturate");
  expect_share(three.shares.at("GaussianBlur"), 0.40251, "GaussianBlur");
  expect_share(three.shares.at("Rotate"), 0.22782, "Rotate");
  expect_share(three.shares.at("Equalize"), 0.08057, "Equalize");
  for (std::uint32_t position = 0; position < 1000; ++position) {
    const auto ops = draw(config, position);
    std::set<Op> different;
    for (const DrawnOp& op : ops) different.insert(op.op);
    ASSERT_EQ(different.size(), ops.size());
  }
}

// Also of those operations alone that a probability lets through.
TEST(data, rand_augment_signs_and_interpolations_are_even) {
  const RandAugmentConfig config{.layers = 1, .probability = 0.5, .magnitude = 10};
  int shears = 0, negative = 0, bicubic = 0;
  for (std::uint32_t position = 0; position < 60000; ++position) {
    const auto ops = draw_rand_augment(config, {1, 2, position}, kHeight, kWidth, Interpolation::kBilinear, true);
    if (ops.empty() || ops[0].op != Op::kShearX) continue;
    ++shears;
    negative += ops[0].pixel_op.matrix[1] < 0;
    bicubic += ops[0].pixel_op.interpolation == Interpolation::kBicubic;
  }
  const double deviation = 4.5 * std::sqrt(shears / 4.0);
  EXPECT_NEAR(negative, shears / 2.0, deviation);
  EXPECT_NEAR(bicubic, shears / 2.0, deviation);
}

// Computed by an independent program from the key's random words: changing these changes every run.
TEST(data, rand_augment_is_fixed_for_ever) {
  constexpr auto kBilinear = Interpolation::kBilinear, kBicubic = Interpolation::kBicubic;
  struct Case {
    std::uint32_t position;
    Op op;
    double argument;
    Interpolation interpolation;
  };
  const Case cases[] = {
      {3, Op::kShearX, 0.2556, kBicubic},     {4, Op::kColorIncreasing, 1.809, kBilinear},
      {4, Op::kRotate, 26.6816, kBicubic},    {5, Op::kColorIncreasing, 0.2033, kBicubic},
      {8, Op::kShearX, -0.2738, kBicubic},    {9, Op::kEqualize, 0, kBicubic},
      {10, Op::kSolarizeAdd, 102, kBilinear}, {10, Op::kAutoContrast, 0, kBilinear},
      {11, Op::kShearX, 0.2691, kBilinear},   {12, Op::kSolarizeIncreasing, 21, kBicubic},
      {12, Op::kAutoContrast, 0, kBilinear},  {14, Op::kRotate, -24.9256, kBicubic},
  };
  const RandAugmentConfig config{.layers = 2, .probability = 0.5, .magnitude = 9, .magnitude_std = 0.5};
  const Case* expected = std::begin(cases);
  for (std::uint32_t position = 3; position < 15; ++position) {
    for (const DrawnOp& drawn : draw_rand_augment(config, {1, 2, position}, kHeight, kWidth, kBicubic, true)) {
      ASSERT_NE(expected, std::end(cases));
      EXPECT_EQ(position, expected->position);
      EXPECT_EQ(drawn.op, expected->op) << "position " << position;
      EXPECT_NEAR(argument_of(drawn.op, drawn.pixel_op), expected->argument, 1e-4) << "position " << position;
      EXPECT_EQ(drawn.pixel_op.interpolation, expected->interpolation) << "position " << position;
      ++expected;
    }
  }
  EXPECT_EQ(expected, std::end(cases));
}

TEST(data, rand_augment_takes_fill_and_interpolation) {
  const RandAugmentConfig config{.layers = 3, .probability = 1, .fill = {124, 116, 104}};
  for (const auto interpolation : {Interpolation::kBilinear, Interpolation::kBicubic}) {
    for (const DrawnOp& drawn : draw_rand_augment(config, {1, 2, 3}, kHeight, kWidth, interpolation, false)) {
      EXPECT_EQ(drawn.pixel_op.fill, config.fill);
      EXPECT_EQ(drawn.pixel_op.interpolation, interpolation);
    }
  }
}

TEST(data, rand_augment_depends_on_its_whole_key) {
  const RandAugmentConfig config{.layers = 2, .probability = 1, .magnitude = 9, .magnitude_std = 0.5};
  const auto draws = [&](const AugmentKey& key) {
    std::string text;
    for (std::uint32_t i = 0; i < 8; ++i) {
      for (const DrawnOp& op : draw_rand_augment(config, {key.seed, key.epoch, key.position + i}, kHeight, kWidth,
                                                 Interpolation::kBicubic, false)) {
        text += std::string(to_string(op.op)) + " ";
      }
    }
    return text;
  };
  const std::string base = draws({1, 2, 3});
  EXPECT_EQ(draws({1, 2, 3}), base);
  EXPECT_NE(draws({2, 2, 3}), base);
  EXPECT_NE(draws({1, 3, 3}), base);
  EXPECT_NE(draws({1, 2, 4}), base);
}

TEST(data, rand_augment_may_blur_with_the_sets_that_have_it) {
  using Set = RandAugmentSet;
  for (const Set set : {Set::k3a, Set::k3aWeighted}) {
    EXPECT_TRUE(may_blur({.layers = 1, .set = set}));
    EXPECT_FALSE(may_blur({.layers = 0, .set = set}));
  }
  for (const Set set : {Set::kStandard, Set::kIncreasing, Set::kWeighted}) {
    EXPECT_FALSE(may_blur({.layers = 1, .set = set}));
  }
}

TEST(data, rand_augment_is_off_without_layers) {
  EXPECT_TRUE(draw({}, 0).empty());
}

}  // namespace
}  // namespace qm
