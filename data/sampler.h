// Which samples an epoch visits, and in what order.
#pragma once

#include <cstdint>
#include <vector>

namespace qm {

/// A permutation of 0 … n−1, uniform over all of them: the sample at position p of the epoch's order is order[p].
/// A function of (seed, epoch, n) alone, so every rank computes the same one. Throws ConfigError unless 0 ≤ n < 2³².
std::vector<std::uint32_t> epoch_order(std::uint64_t seed, std::uint32_t epoch, std::int64_t n);

/// An order for storage that reads one run fast and single samples slowly: the shards, of `shard_sizes` samples, come
/// in a random order one after the other, and samples are shuffled only among `window` consecutive ones of that. Reads
/// so stay within about a window of each other; classes are mixed as the shards mix them. A function of its arguments
/// alone, other in each epoch. Throws ConfigError as above, and on a window below 1.
std::vector<std::uint32_t> window_order(std::uint64_t seed, std::uint32_t epoch,
                                        const std::vector<std::int64_t>& shard_sizes, std::int64_t window);

/// An epoch's order for repeated augmentation (Hoffer et al., 2020): as many positions as `order` has, filled with its
/// first samples, each `repeats` times. The copies of a sample lie in the same global batch (but for the few that its
/// end parts), about global_batch / repeats positions apart, so that no two are neighbours, whom mixup would mix. With
/// repeats = 1 it is `order`. Throws ConfigError unless repeats and, with more than one, global_batch are at least 1.
std::vector<std::uint32_t> repeated_order(std::vector<std::uint32_t> order, std::int64_t repeats,
                                          std::int64_t global_batch);

/// ⌊n / global_batch⌋: an epoch takes whole global batches and drops the order's tail, which holds other samples each
/// epoch. Step s takes positions s·global_batch … (s+1)·global_batch − 1. Throws ConfigError where that is no step.
std::int64_t steps_per_epoch(std::int64_t n, std::int64_t global_batch);

}  // namespace qm
