#include "dist/sharding.h"

#include <string>

#include "kernels/base/error.h"

namespace qm {
namespace {

std::string in_units(std::int64_t unit) {
  return unit == 1 ? std::string() : concat(" in multiples of ", unit);
}

}  // namespace

Share share_of(std::int64_t global_batch, int rank, int size, std::int64_t unit) {
  QM_CHECK(global_batch % (size * unit) == 0, ConfigError, "global batch ", global_batch, " cannot be shared by ", size,
           " ranks", in_units(unit));
  const std::int64_t count = global_batch / size;
  return {rank * count, count};
}

std::vector<Share> micro_batches_of(Share share, std::int64_t micro_batch, std::int64_t unit) {
  const std::int64_t count = micro_batch == 0 ? share.count : micro_batch;
  QM_CHECK(share.count % count == 0 && count % unit == 0, ConfigError, "a rank's share of ", share.count,
           " samples cannot be split into micro-batches of ", count, in_units(unit));
  std::vector<Share> parts;
  for (std::int64_t first = 0; first < share.count; first += count) parts.push_back({share.first + first, count});
  return parts;
}

}  // namespace qm
