#include "launch/open_shards.h"

#include <optional>
#include <utility>

#include "kernels/base/fault.h"
#include "launch/stop.h"

namespace qm {

ShardSet open_shards(const std::string& folder, const std::string& split, Communicator& communicator) {
  fault_point("index");
  check_stop(communicator);
  std::optional<ShardSet> shards;
  try {
    shards.emplace(folder, split, [] {
      fault_point("shard");
      check_stop();
    });
  } catch (const Stopped&) {  // the others still read: they hear of it below
  }
  check_stop(communicator);
  return std::move(*shards);
}

}  // namespace qm
