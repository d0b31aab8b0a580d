// Which samples of a global batch a rank works on, and in what portions.
#pragma once

#include <cstdint>
#include <vector>

namespace qm {

/// A contiguous run of positions of the global batch.
struct Share {
  std::int64_t first = 0;
  std::int64_t count = 0;

  friend bool operator==(const Share&, const Share&) = default;
};

/// Rank `rank`'s share of the global batch: `size` equal shares in rank order, each a multiple of `unit` samples (2
/// where neighbours are mixed with one another). Throws ConfigError ("global batch 24 cannot be shared by 5 ranks").
Share share_of(std::int64_t global_batch, int rank, int size, std::int64_t unit = 1);

/// The share in consecutive portions of `micro_batch` samples (0: the whole share at once), a multiple of `unit`.
/// Throws ConfigError naming both numbers if they do not fit.
std::vector<Share> micro_batches_of(Share share, std::int64_t micro_batch, std::int64_t unit = 1);

}  // namespace qm
