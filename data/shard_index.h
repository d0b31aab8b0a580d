// A shard's index: everything in a shard but the images, and the one place that knows how HDF5 lays it out.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/file.h"
#include "data/guarded_file.h"
#include "data/memory_image.h"

namespace qm {

/// One entry a sample in each vector, but offset, which has one more. See data/shard.h.
struct ShardIndex {
  std::string split;
  std::vector<std::string> class_names;
  std::vector<std::uint64_t> offset = {0};
  std::vector<std::int32_t> label;
  std::vector<std::uint32_t> crc32c;
  std::vector<std::uint8_t> encoding;
  std::vector<std::array<std::uint16_t, 2>> size;  ///< height, width
  std::vector<std::uint64_t> id;
  ByteRange data;  ///< where the images are in the file

  std::int64_t samples() const { return static_cast<std::int64_t>(label.size()); }
};

/// Where the images of a shard begin, whatever their number and size.
std::uint64_t shard_data_begin();

/// Lays out the shard in `image`, with a hole for the images, and sets index.data.
void write_shard_index(MemoryImage& image, ShardIndex& index);

/// Verifies a shard's guard and reads its index. Throws IoError naming the file: damage, or entries that contradict
/// each other.
ShardIndex read_shard_index(const InputFile& file);

}  // namespace qm
