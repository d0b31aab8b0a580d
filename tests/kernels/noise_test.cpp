#include "kernels/noise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

namespace qm {
namespace {

constexpr int kDraws = 40000;

std::vector<float> drop_path_of(const StepRecord& record, std::uint32_t site, float rate, int rows = kDraws) {
  std::vector<float> scales;
  for (int row = 0; row < rows; ++row) {
    scales.push_back(drop_path_scale(&record, site, rate, static_cast<std::uint32_t>(row)));
  }
  return scales;
}

std::array<float, 4> gumbel_of(const StepRecord& record, std::uint32_t site, std::uint32_t row) {
  std::array<float, 4> noise;
  gumbel_noise(record, site, row, noise.data());
  return noise;
}

// A rate p drops a share p ± 4.5 √(p (1 − p) / n), and keeps the mean.
TEST(kernels, noise_drop_path_rate) {
  const StepRecord record{.seed = 1};
  for (const float rate : {0.05f, 0.3f, 0.9f}) {
    const auto scales = drop_path_of(record, 3, rate);
    const double dropped = static_cast<double>(std::count(scales.begin(), scales.end(), 0.0f)) / kDraws;
    EXPECT_NEAR(dropped, rate, 4.5 * std::sqrt(rate * (1 - rate) / kDraws));
    for (const float scale : scales) ASSERT_TRUE(scale == 0 || scale == 1 / (1 - rate)) << scale;
  }
}

TEST(kernels, noise_drop_path_is_off_without_rate_or_record) {
  const StepRecord record{.seed = 1};
  EXPECT_EQ(drop_path_of(record, 0, 0.0f, 100), std::vector<float>(100, 1.0f));
  EXPECT_EQ(drop_path_scale(nullptr, 0, 0.9f, 0), 1.0f);
}

// Rank 0 of one process holds position 8 in row 8; a rank whose share begins at 8 holds it in row 0.
TEST(kernels, noise_follows_the_place_in_the_global_batch) {
  const StepRecord whole{.seed = 7, .step = 3}, share{.seed = 7, .step = 3, .first_position = 8};
  for (std::uint32_t row = 0; row < 64; ++row) {
    EXPECT_EQ(drop_path_scale(&share, 1, 0.5f, row), drop_path_scale(&whole, 1, 0.5f, row + 8));
    EXPECT_EQ(gumbel_of(share, 1, row), gumbel_of(whole, 1, row + 8));
  }
}

TEST(kernels, noise_differs_by_seed_step_and_site) {
  const StepRecord base{.seed = 7, .step = 3}, other_seed{.seed = 8, .step = 3}, other_step{.seed = 7, .step = 4};
  const auto scales = drop_path_of(base, 1, 0.5f, 64);
  EXPECT_NE(scales, drop_path_of(other_seed, 1, 0.5f, 64));
  EXPECT_NE(scales, drop_path_of(other_step, 1, 0.5f, 64));
  EXPECT_NE(scales, drop_path_of(base, 2, 0.5f, 64));
  EXPECT_NE(gumbel_of(base, 1, 0), gumbel_of(other_seed, 1, 0));
  EXPECT_NE(gumbel_of(base, 1, 0), gumbel_of(other_step, 1, 0));
  EXPECT_NE(gumbel_of(base, 1, 0), gumbel_of(base, 2, 0));
}

// Gumbel(0, 1): mean γ = 0.5772, variance π²/6; the four quadrants are uncorrelated, and each is the largest as often.
TEST(kernels, noise_gumbel_distribution) {
  const StepRecord record{.seed = 2, .step = 9};
  constexpr double kVariance = std::numbers::pi * std::numbers::pi / 6;
  double sum[4] = {}, squares[4] = {}, product = 0;
  int largest[4] = {};
  for (std::uint32_t row = 0; row < kDraws; ++row) {
    const auto noise = gumbel_of(record, 0, row);
    for (int q = 0; q < 4; ++q) {
      sum[q] += noise[q];
      squares[q] += std::pow(noise[q] - std::numbers::egamma, 2);
    }
    product += (noise[0] - std::numbers::egamma) * (noise[1] - std::numbers::egamma);
    ++largest[std::max_element(noise.begin(), noise.end()) - noise.begin()];
  }
  const double root = std::sqrt(static_cast<double>(kDraws));
  for (int q = 0; q < 4; ++q) {
    EXPECT_NEAR(sum[q] / kDraws, std::numbers::egamma, 4.5 * std::sqrt(kVariance) / root);
    // The fourth moment of Gumbel is 5.4 variances squared: its square's deviation is √4.4 variances.
    EXPECT_NEAR(squares[q] / kDraws, kVariance, 4.5 * std::sqrt(4.4) * kVariance / root);
    EXPECT_NEAR(largest[q] / static_cast<double>(kDraws), 0.25, 4.5 * std::sqrt(0.1875) / root);
  }
  EXPECT_NEAR(product / kDraws, 0, 4.5 * kVariance / root);
}

TEST(kernels, noise_gumbel_is_finite_at_the_ends) {
  EXPECT_TRUE(std::isfinite(-std::log(-std::log(uniform_open(0)))));
  EXPECT_TRUE(std::isfinite(-std::log(-std::log(uniform_open(~0u)))));
}

}  // namespace
}  // namespace qm
