#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "kernels/base/error.h"

namespace qm {
namespace {

using Order = std::vector<std::uint32_t>;

TEST(data, sampler_order_is_a_permutation) {
  for (const std::int64_t n : {0, 1, 2, 3, 1000, 1001}) {
    Order order = epoch_order(7, 2, n);
    std::sort(order.begin(), order.end());
    Order all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), 0u);
    EXPECT_EQ(order, all) << n;
  }
}

// Computed by an independent program: changing these changes every run.
TEST(data, sampler_order_is_fixed_for_ever) {
  EXPECT_EQ(epoch_order(0, 0, 10), (Order{8, 7, 9, 1, 0, 5, 3, 2, 6, 4}));
  EXPECT_EQ(epoch_order(0, 1, 10), (Order{6, 4, 3, 2, 5, 0, 8, 9, 1, 7}));
  EXPECT_EQ(epoch_order(std::uint64_t{1} << 33, 0, 9), (Order{1, 6, 2, 8, 0, 3, 7, 5, 4}));
}

TEST(data, sampler_order_is_uniform_over_permutations) {
  constexpr int kEpochs = 60000;
  std::map<Order, int> seen;
  for (std::uint32_t epoch = 0; epoch < kEpochs; ++epoch) ++seen[epoch_order(1, epoch, 5)];
  ASSERT_EQ(seen.size(), 120u);
  const double expected = kEpochs / 120.0;
  double chi_square = 0;
  for (const auto& [order, count] : seen) chi_square += (count - expected) * (count - expected) / expected;
  EXPECT_LT(chi_square, 185);  // 119 degrees of freedom: one in ten thousand exceeds it
}

TEST(data, sampler_repeats_lie_apart_in_one_global_batch) {
  constexpr std::int64_t kSamples = 1000, kBatch = 96, kRepeats = 3;
  const Order order = repeated_order(epoch_order(3, 1, kSamples), kRepeats, kBatch);
  ASSERT_EQ(order.size(), 1000u);
  std::map<std::uint32_t, std::vector<std::int64_t>> positions;
  for (std::int64_t p = 0; p < kSamples; ++p) positions[order[p]].push_back(p);
  EXPECT_EQ(positions.size(), 334u);  // the first of the permutation, the last of them once
  for (const auto& [sample, at] : positions) {
    if (at.back() >= kSamples / kBatch * kBatch) continue;
    ASSERT_EQ(at.size(), 3u) << sample;
    EXPECT_EQ(at.front() / kBatch, at.back() / kBatch);
    EXPECT_EQ(at[1] - at[0], kBatch / kRepeats);
  }
  EXPECT_EQ(repeated_order(epoch_order(3, 1, kSamples), 1, 0), epoch_order(3, 1, kSamples));
  // Where the batch is no multiple, copies of one sample may be parted by its end, never beside each other.
  const Order uneven = repeated_order(epoch_order(3, 1, kSamples), 3, 100);
  for (std::int64_t p = 0; p + 1 < kSamples; p += 2) EXPECT_NE(uneven[p], uneven[p + 1]);
  EXPECT_THROW(repeated_order({1, 2}, 0, 1), ConfigError);
  EXPECT_THROW(repeated_order({1, 2}, 2, 0), ConfigError);
}

TEST(data, sampler_window_order_stays_within_its_window) {
  const std::vector<std::int64_t> shards = {100, 7, 250, 43};
  constexpr std::int64_t kWindow = 64;
  const Order order = window_order(5, 2, shards, kWindow);
  Order sorted = order;
  std::sort(sorted.begin(), sorted.end());
  Order all(400);
  std::iota(all.begin(), all.end(), 0u);
  EXPECT_EQ(sorted, all);
  // Undone within each window, it is the shards one after the other, each in its own order.
  Order undone = order;
  const Order in_turn = window_order(5, 2, shards, 1);
  std::map<std::uint32_t, std::int64_t> place;
  for (std::int64_t i = 0; i < 400; ++i) place[in_turn[i]] = i;
  for (std::int64_t i = 0; i < 400; ++i) EXPECT_EQ(place[order[i]] / kWindow, i / kWindow);
  int breaks = 0;
  for (std::int64_t i = 1; i < 400; ++i) breaks += in_turn[i] != in_turn[i - 1] + 1;
  EXPECT_LE(breaks, 3);
  EXPECT_NE(order, in_turn);
  EXPECT_NE(window_order(5, 3, shards, kWindow), order);
  EXPECT_EQ(window_order(5, 2, shards, kWindow), order);
  EXPECT_EQ(window_order(5, 2, {10}, 100).size(), 10u);
  EXPECT_THROW(window_order(5, 2, shards, 0), ConfigError);
}

TEST(data, sampler_steps_drop_the_tail) {
  EXPECT_EQ(steps_per_epoch(100, 25), 4);
  EXPECT_EQ(steps_per_epoch(99, 25), 3);
  EXPECT_EQ(steps_per_epoch(25, 25), 1);
  EXPECT_THROW(steps_per_epoch(24, 25), ConfigError);
  EXPECT_THROW(steps_per_epoch(24, 0), ConfigError);
}

TEST(data, sampler_refuses_impossible_sizes) {
  EXPECT_THROW(epoch_order(0, 0, -1), ConfigError);
  EXPECT_THROW(epoch_order(0, 0, std::int64_t{1} << 32), ConfigError);
}

}  // namespace
}  // namespace qm
