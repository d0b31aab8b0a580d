// Opening a split on every rank of a job that a signal may end meanwhile.
#pragma once

#include <string>

#include "data/shard.h"
#include "dist/communicator.h"

namespace qm {

/// Collective. Throws IoError as ShardSet does, and Stopped, on every rank, if a signal has come to one before or
/// meanwhile: that one looks before it reads each shard's index, which may take minutes from a slow store.
ShardSet open_shards(const std::string& folder, const std::string& split, Communicator& communicator);

}  // namespace qm
