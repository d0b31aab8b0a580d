// Shards whose index a test has made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/guarded_file.h"
#include "data/shard_index.h"

namespace qm {

/// A whole shard of `index` and the bytes of its images.
inline void write_shard_of(const std::string& path, ShardIndex& index, const std::vector<std::uint8_t>& images) {
  MemoryImage image;
  write_shard_index(image, index);
  AtomicFile file(path);
  write_guarded(file, FileKind::kShard, image, index.data);
  file.write(index.data.begin, images);
  file.finish();
  file.publish();
}

}  // namespace qm
