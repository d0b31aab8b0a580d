// Shards: the HDF5 files that hold a data set's encoded images.
//
// `<split>-00003-of-00016.h5` holds, beside the guard of data/guarded_file.h:
//   attributes  format = "quadmamba-shard", version, split, num_samples
//   data        uint8            the encoded images (JPEG or PNG), one contiguous uncompressed run
//   offset      uint64 (n + 1)   sample i is data[offset[i] .. offset[i + 1])
//   label       int32 (n)        index into class_names
//   crc32c      uint32 (n)       of the encoded bytes
//   encoding    uint8 (n)        0 JPEG, 1 PNG
//   size        uint16 (n, 2)    height, width in pixels
//   id          uint64 (n)       the sample's number in the whole data set
//   class_names UTF-8 text, one a class
//
// HDF5 has one lock for a whole process; so the index is read through it once, and images by pread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qm {

enum class Encoding : std::uint8_t { kJpeg = 0, kPng = 1 };

/// The encoding that the first bytes of a file announce; nothing if neither JPEG nor PNG.
std::optional<Encoding> encoding_of(std::span<const std::uint8_t> bytes);

/// "train-00003-of-00016.h5"
std::string shard_name(const std::string& split, std::int64_t number, std::int64_t count);

/// Every shard of a split in a folder, by its name alone and sorted by it. Throws IoError if the folder cannot be read.
std::vector<std::string> find_shards(const std::string& folder, const std::string& split);

/// Throws ConfigError unless the name of a split can be part of a file name (letters, digits, '_', '.', '-').
void check_split_name(const std::string& split);

struct ShardSample {
  std::span<const std::uint8_t> bytes;  ///< the encoded image
  std::int32_t label = 0;
  std::uint64_t id = 0;
  std::int64_t height = 0, width = 0;  ///< pixels, 1 to 65535
};

/// Writes one shard. Images go straight to a temporary file beside the final one; only publish() gives it its name,
/// and a writer destroyed before that removes what it wrote. Same samples in the same order, same bytes.
class ShardWriter {
 public:
  /// Shard `number` of `count` in `folder`. Throws IoError if nothing can be written there.
  ShardWriter(const std::string& folder, const std::string& split, std::int64_t number, std::int64_t count,
              std::vector<std::string> class_names);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  /// Throws IoError naming the shard if the sample's label, size or encoding cannot be stored, or the write fails.
  void append(const ShardSample& sample);
  /// Writes the index and the guard and brings everything to the disk. Throws IoError for a shard without samples.
  void finish();
  /// After finish(): gives the file its name, replacing a file that bore it.
  void publish();

  const std::string& path() const;
  std::int64_t size() const;         ///< samples so far
  std::uint64_t data_bytes() const;  ///< encoded bytes so far

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What verify_shard found.
struct ShardReport {
  std::string split;
  std::int64_t samples = 0;
  std::uint64_t data_bytes = 0, file_bytes = 0;
  std::int64_t jpegs = 0, pngs = 0;
  std::int64_t smallest_side = 0, largest_side = 0;  ///< pixels, over all heights and widths
  std::vector<std::string> class_names;
  std::vector<std::int64_t> samples_per_class;
};

/// Reads a shard whole, its samples in `threads` threads, and checks all of it: guard, index, and the CRC of every
/// sample. Throws IoError naming the file and the first thing that is wrong.
ShardReport verify_shard(const std::string& path, int threads = 1);

/// All shards of one split: samples 0 .. size() − 1 run through the shards in the order of their names.
class ShardSet {
 public:
  /// Opens every `<split>-*-of-*.h5` of a folder. Throws IoError unless the set is complete, each shard's guard and
  /// index are sound, and all agree on split and class names, with no sample id twice. `before_each`, where there is
  /// one, is called before each index is read; what it throws ends the work.
  ShardSet(const std::string& folder, const std::string& split, const std::function<void()>& before_each = {});
  ~ShardSet();
  ShardSet(ShardSet&&) noexcept;
  ShardSet& operator=(ShardSet&&) noexcept;

  std::int64_t size() const;
  std::vector<std::int64_t> shard_sizes() const;  ///< samples of each shard, in order
  std::int32_t label(std::int64_t index) const;  ///< 0 ≤ label < class_names().size()
  std::uint64_t id(std::int64_t index) const;
  std::int64_t height(std::int64_t index) const;
  std::int64_t width(std::int64_t index) const;
  const std::vector<std::string>& class_names() const;

  /// Reads a sample's encoded bytes into `bytes` and checks their CRC. Thread-safe. Throws IoError naming
  /// shard, sample and cause.
  void read(std::int64_t index, std::vector<std::uint8_t>& bytes) const;
  /// "FILE: sample 12 (id 3456)", the sample's place in its shard: for errors about it.
  std::string describe(std::int64_t index) const;

  /// A number over class names, ids, labels, sizes and CRCs in order: equal for equal data in equal order.
  std::uint64_t digest() const;

 private:
  struct Shard;
  const Shard& shard_of(std::int64_t index) const;
  void check_ids() const;
  std::uint64_t compute_digest() const;

  std::vector<std::unique_ptr<Shard>> shards_;
  std::int64_t size_ = 0;
  std::vector<std::string> class_names_;
  std::uint64_t digest_ = 0;
};

}  // namespace qm
