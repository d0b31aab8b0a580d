// Guarded files: HDF5 files that prove themselves sound before libhdf5 sees a byte of them.
//
// libhdf5 crashes, hangs or silently misreads when its metadata is damaged. So our files begin with a guard in the
// 512-byte HDF5 user block; HDF5's addresses count from behind it. Numbers are little-endian:
//
//     0  magic            8 bytes, 89 "QMAMBA" 0A
//     8  format version   uint32
//    12  kind             uint32: 1 shard, 2 checkpoint
//    16  file length      uint64, bytes
//    24  unguarded range  uint64 begin, uint64 end: bytes that bear their own checksums (a shard's images), or 0, 0
//    40  CRC-32C          uint32, of bytes 512 .. file length without the unguarded range
//    44  zeros
//   508  CRC-32C          uint32, of bytes 0 .. 508
//
// Every byte of a file is under a checksum, and libhdf5 is given a verified copy in memory, not the file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/file.h"
#include "data/memory_image.h"

namespace qm {

enum class FileKind : std::uint32_t { kShard = 1, kCheckpoint = 2 };

std::string_view to_string(FileKind kind);

inline constexpr std::uint64_t kGuardBytes = 512;
/// Of the files written; older ones are read too, newer ones refused.
inline constexpr std::uint32_t kFormatVersion = 1;

struct ByteRange {
  std::uint64_t begin = 0, end = 0;

  std::uint64_t size() const { return end - begin; }
};

struct Guard {
  FileKind kind{};
  std::uint32_t version = 0;
  std::uint64_t file_bytes = 0;
  ByteRange unguarded;
};

/// What a file says it is. Throws IoError if it is not one of ours or its guard is damaged.
Guard read_guard(const InputFile& file);

/// Verifies a file of the expected kind and copies its guarded bytes into `image` (with a hole for the unguarded ones).
/// Throws IoError naming the file: of another kind, cut short, or damaged; UnreadableFile for a newer version.
Guard read_guarded(const InputFile& file, FileKind expected, MemoryImage& image);

/// Verifies the same without keeping the bytes.
Guard verify_guarded(const InputFile& file, FileKind expected);

/// Writes the guard and all of `image` but its first 512 bytes and `unguarded`, which the caller writes.
void write_guarded(AtomicFile& file, FileKind kind, const MemoryImage& image, ByteRange unguarded = {});

}  // namespace qm
