#include "data/sampler.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <span>
#include <utility>

#include "kernels/base/error.h"
#include "kernels/base/philox.h"

namespace qm {
namespace {

/// A uniform integer in [0, bound): the upper half of a 64 × 64-bit product, whose bias, below 2⁻³², is out of reach of
/// any measurement and which, unlike rejection, takes a fixed number of draws.
std::uint64_t scale_to(std::uint64_t bound, std::uint32_t high, std::uint32_t low) {
  const std::uint64_t word = (static_cast<std::uint64_t>(high) << 32) | low;
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(word) * bound) >> 64);
}

/// Fisher–Yates from the back; element i takes the pair of words i mod 2 of block ⌊i / 2⌋ of its stream.
void shuffle(std::span<std::uint32_t> order, std::uint64_t seed, std::uint32_t epoch, std::uint32_t stream) {
  PhiloxBlock block{};
  for (auto i = static_cast<std::int64_t>(order.size()) - 1; i > 0; --i) {
    if (i == static_cast<std::int64_t>(order.size()) - 1 || i % 2 == 1) {
      block = philox(seed, RandomPurpose::kDataOrder, epoch, stream, static_cast<std::uint32_t>(i / 2));
    }
    const auto* pair = &block.word[2 * (i % 2)];
    std::swap(order[i], order[scale_to(static_cast<std::uint64_t>(i) + 1, pair[0], pair[1])]);
  }
}

/// The `minor` part of the keys. Fixed, as changing one changes every run.
enum Stream : std::uint32_t { kSamples = 0, kShards = 1, kFirstWindow = 2 };

std::vector<std::uint32_t> in_sequence(std::int64_t n) {
  QM_CHECK(n >= 0 && n <= std::numeric_limits<std::uint32_t>::max(), ConfigError, "epoch order of ", n,
           " samples: expected 0 to 2^32 - 1");
  std::vector<std::uint32_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0u);
  return order;
}

}  // namespace

std::vector<std::uint32_t> epoch_order(std::uint64_t seed, std::uint32_t epoch, std::int64_t n) {
  std::vector<std::uint32_t> order = in_sequence(n);
  shuffle(order, seed, epoch, kSamples);
  return order;
}

std::vector<std::uint32_t> window_order(std::uint64_t seed, std::uint32_t epoch,
                                        const std::vector<std::int64_t>& shard_sizes, std::int64_t window) {
  QM_CHECK(window >= 1, ConfigError, "window of ", window, " samples: expected at least 1");
  std::vector<std::int64_t> firsts;
  std::int64_t n = 0;
  for (const std::int64_t size : shard_sizes) {
    firsts.push_back(n);
    n += size;
  }
  std::vector<std::uint32_t> shards = in_sequence(static_cast<std::int64_t>(shard_sizes.size()));
  shuffle(shards, seed, epoch, kShards);
  std::vector<std::uint32_t> order = in_sequence(n);
  auto at = order.begin();
  for (const std::uint32_t shard : shards) {
    std::iota(at, at + shard_sizes[shard], static_cast<std::uint32_t>(firsts[shard]));
    at += shard_sizes[shard];
  }
  std::uint32_t stream = kFirstWindow;
  for (std::int64_t first = 0; first < n; first += window, ++stream) {
    shuffle(std::span(order).subspan(first, std::min(window, n - first)), seed, epoch, stream);
  }
  return order;
}

std::vector<std::uint32_t> repeated_order(std::vector<std::uint32_t> order, std::int64_t repeats,
                                          std::int64_t global_batch) {
  if (repeats == 1) return order;
  QM_CHECK(repeats >= 1 && global_batch >= 1, ConfigError, "epoch order: ", repeats, " repeats in global batches of ",
           global_batch, ": expected at least 1 of both");
  const auto n = static_cast<std::int64_t>(order.size());
  std::vector<std::uint32_t> repeated;
  repeated.reserve(order.size());
  for (std::int64_t first = 0; first < n; first += global_batch) {
    const std::int64_t count = std::min(global_batch, n - first);
    // Were each sample followed by its copies, then every repeats-th, from each start.
    for (std::int64_t start = 0; start < repeats; ++start) {
      for (std::int64_t i = start; i < count; i += repeats) repeated.push_back(order[(first + i) / repeats]);
    }
  }
  return repeated;
}

std::int64_t steps_per_epoch(std::int64_t n, std::int64_t global_batch) {
  QM_CHECK(global_batch >= 1, ConfigError, "global batch of ", global_batch, ": expected at least 1");
  QM_CHECK(n >= global_batch, ConfigError, n, " training samples are fewer than one global batch of ", global_batch);
  return n / global_batch;
}

}  // namespace qm
