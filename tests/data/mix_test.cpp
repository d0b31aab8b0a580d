#include "data/mix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <vector>

namespace qm {
namespace {

constexpr std::int64_t kHeight = 224, kWidth = 192;

MixGroup draw(const MixConfig& config, std::uint32_t step, std::uint32_t group = 0, std::uint64_t seed = 11) {
  return draw_mix(config, seed, step, group, kHeight, kWidth);
}

bool has_box(const MixGroup& mix) {
  return mix.bottom > mix.top && mix.right > mix.left;
}

bool is_untouched(const MixGroup& mix) {
  return mix.pixel_weight == 1 && mix.target_weight == 1 && !has_box(mix);
}

std::vector<double> lambdas(double alpha, std::uint32_t count) {
  std::vector<double> drawn;
  for (std::uint32_t step = 0; step < count; ++step) drawn.push_back(draw({.mixup = alpha}, step).target_weight);
  return drawn;
}

/// Kolmogorov's distance between the draws and a distribution function, times √n: above 1.95 once in a thousand.
double kolmogorov(std::vector<double> drawn, const std::function<double(double)>& distribution) {
  std::sort(drawn.begin(), drawn.end());
  const auto n = static_cast<double>(drawn.size());
  double distance = 0;
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const double expected = distribution(drawn[i]);
    distance = std::max({distance, expected - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - expected});
  }
  return distance * std::sqrt(n);
}

// Computed by an independent program: changing these changes every run.
TEST(data, mix_draws_are_fixed_for_ever) {
  const MixConfig both{.mixup = 0.8, .cutmix = 1.0};
  const MixGroup mixup = draw(both, 1);
  EXPECT_NEAR(mixup.pixel_weight, 0.1262576642026873, 1e-12);
  EXPECT_EQ(mixup.target_weight, mixup.pixel_weight);
  EXPECT_FALSE(has_box(mixup));

  const MixGroup cutmix = draw(both, 4);
  EXPECT_EQ(cutmix.pixel_weight, 1);
  EXPECT_NEAR(cutmix.target_weight, 0.5446428571428572, 1e-12);
  EXPECT_EQ(cutmix.top, 5);
  EXPECT_EQ(cutmix.bottom, 209);
  EXPECT_EQ(cutmix.left, 0);
  EXPECT_EQ(cutmix.right, 96);

  EXPECT_NEAR(draw_mix({.mixup = 0.2}, std::uint64_t{1} << 40, 9, 3, 32, 32).pixel_weight, 0.9969626302641312, 1e-12);
}

TEST(data, mix_lambda_follows_the_beta_distribution) {
  constexpr std::uint32_t kDraws = 20000;
  EXPECT_LT(kolmogorov(lambdas(1.0, kDraws), [](double x) { return x; }), 1.95);
  const auto arcsine = [](double x) { return 2 / std::numbers::pi * std::asin(std::sqrt(x)); };
  EXPECT_LT(kolmogorov(lambdas(0.5, kDraws), arcsine), 1.95);
  EXPECT_LT(kolmogorov(lambdas(2.0, kDraws), [](double x) { return x * x * (3 - 2 * x); }), 1.95);

  for (const double alpha : {0.2, 0.8}) {
    double sum = 0, squares = 0;
    for (const double lambda : lambdas(alpha, kDraws)) {
      sum += lambda;
      squares += (lambda - 0.5) * (lambda - 0.5);
    }
    EXPECT_NEAR(sum / kDraws, 0.5, 0.01) << alpha;
    EXPECT_NEAR(squares / kDraws, 1 / (4 * (2 * alpha + 1)), 0.003) << alpha;
  }
}

TEST(data, mix_tiny_alpha_stays_a_probability) {
  for (const double lambda : lambdas(1e-4, 2000)) ASSERT_TRUE(lambda >= 0 && lambda <= 1) << lambda;
}

TEST(data, mix_probabilities) {
  constexpr int kDraws = 20000;
  const MixConfig config{.mixup = 0.8, .cutmix = 1.0, .probability = 0.7, .switch_probability = 0.25};
  int untouched = 0, mixup = 0;
  for (int step = 0; step < kDraws; ++step) {
    const MixGroup mix = draw(config, static_cast<std::uint32_t>(step));
    untouched += is_untouched(mix);
    mixup += mix.pixel_weight < 1;
  }
  // Cutmix leaves an empty box, so an untouched group, about once in a thousand draws.
  EXPECT_NEAR(untouched / static_cast<double>(kDraws), 0.3, 0.013);
  EXPECT_NEAR(mixup / static_cast<double>(kDraws), 0.7 * 0.75, 0.013);
}

TEST(data, mix_box_and_weight_agree) {
  constexpr std::uint32_t kDraws = 5000;
  int clipped = 0;
  for (std::uint32_t step = 0; step < kDraws; ++step) {
    const MixGroup mix = draw({.cutmix = 1.0}, step);
    ASSERT_EQ(mix.pixel_weight, 1);
    ASSERT_TRUE(0 <= mix.top && mix.top <= mix.bottom && mix.bottom <= kHeight);
    ASSERT_TRUE(0 <= mix.left && mix.left <= mix.right && mix.right <= kWidth);
    const double area = static_cast<double>(mix.bottom - mix.top) * (mix.right - mix.left);
    ASSERT_DOUBLE_EQ(mix.target_weight, 1 - area / (kHeight * kWidth));
    clipped += mix.top == 0 || mix.left == 0 || mix.bottom == kHeight || mix.right == kWidth;
  }
  EXPECT_GT(clipped, 0);
  EXPECT_LT(clipped, static_cast<int>(kDraws));
}

// timm's rand_bbox_minmax: every side and place that its bounds, exclusive above, leave, equally often.
TEST(data, mix_box_between_bounds_is_uniform) {
  constexpr std::uint32_t kDraws = 60000;
  constexpr std::int64_t kExtent = 40;  // sides of 8 … 31
  const MixConfig config{.cutmix_minmax = {0.2, 0.8}};
  std::vector<double> sides(kExtent), begins_of_shortest(kExtent);
  for (std::uint32_t step = 0; step < kDraws; ++step) {
    const MixGroup mix = draw_mix(config, 11, step, 0, kExtent, 2 * kExtent);
    const std::int64_t height = mix.bottom - mix.top, width = mix.right - mix.left;
    ASSERT_EQ(mix.pixel_weight, 1);
    ASSERT_TRUE(height >= 8 && height < 32 && width >= 16 && width < 64) << height << " x " << width;
    ASSERT_TRUE(mix.top >= 0 && mix.bottom < kExtent && mix.left >= 0 && mix.right < 2 * kExtent);
    ASSERT_DOUBLE_EQ(mix.target_weight, 1 - static_cast<double>(height * width) / (2 * kExtent * kExtent));
    sides[static_cast<std::size_t>(height)] += 24.0 / kDraws;
    if (height == 8) begins_of_shortest[static_cast<std::size_t>(mix.top)] += 32.0 * 24 / kDraws;
  }
  for (std::size_t side = 8; side < 32; ++side) EXPECT_NEAR(sides[side], 1, 0.1) << side;        // 5 deviations
  for (std::size_t top = 0; top < 32; ++top) EXPECT_NEAR(begins_of_shortest[top], 1, 0.57) << top;  // 5 deviations
}

TEST(data, mix_box_between_bounds_is_on_like_cutmix) {
  const MixConfig config{.mixup = 0.8, .switch_probability = 0.25, .cutmix_minmax = {0.2, 0.8}};
  int cut = 0;
  for (std::uint32_t step = 0; step < 20000; ++step) cut += has_box(draw(config, step));
  EXPECT_NEAR(cut / 20000.0, 0.25, 0.013);
}

TEST(data, mix_groups_and_steps_draw_independently) {
  const MixConfig config{.mixup = 0.8};
  EXPECT_EQ(draw(config, 3, 2).pixel_weight, draw(config, 3, 2).pixel_weight);
  EXPECT_NE(draw(config, 3, 2).pixel_weight, draw(config, 3, 1).pixel_weight);
  EXPECT_NE(draw(config, 3, 2).pixel_weight, draw(config, 2, 3).pixel_weight);
  EXPECT_NE(draw(config, 3, 2).pixel_weight, draw(config, 3, 2, 12).pixel_weight);
}

TEST(data, mix_off_leaves_samples_alone) {
  for (std::uint32_t step = 0; step < 100; ++step) {
    EXPECT_TRUE(is_untouched(draw({}, step)));
    EXPECT_TRUE(is_untouched(draw({.mixup = 1, .cutmix = 1, .probability = 0}, step)));
  }
}

}  // namespace
}  // namespace qm
