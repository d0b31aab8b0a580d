// MemoryImage: the contents of a file, in memory, without its holes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>

namespace qm {

/// Bytes at offsets 0 .. size() − 1, kept in pages that exist once written to; all else reads as 0. So the metadata
/// around a gigabyte of images takes the memory of the metadata.
class MemoryImage {
 public:
  std::uint64_t size() const { return size_; }
  /// Cuts off what lies beyond `size`, or appends zeros.
  void resize(std::uint64_t size);
  /// Grows the image where needed.
  void write(std::uint64_t offset, std::span<const std::uint8_t> bytes);
  /// Beyond the end there are zeros.
  void read(std::uint64_t offset, std::span<std::uint8_t> bytes) const;

 private:
  static constexpr std::uint64_t kPageBytes = 256 * 1024;

  std::uint64_t size_ = 0;
  std::map<std::uint64_t, std::unique_ptr<std::uint8_t[]>> pages_;  // by offset / kPageBytes
};

}  // namespace qm
