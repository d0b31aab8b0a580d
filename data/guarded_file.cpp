#include "data/guarded_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <vector>

#include "data/crc32c.h"
#include "kernels/base/error.h"

namespace qm {

namespace {

static_assert(std::endian::native == std::endian::little, "the guard is written as it lies in memory");

constexpr std::array<char, 8> kMagic = {'\x89', 'Q', 'M', 'A', 'M', 'B', 'A', '\n'};

struct GuardBlock {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kFormatVersion;
  std::uint32_t kind = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t unguarded_begin = 0;
  std::uint64_t unguarded_end = 0;
  std::uint32_t contents_crc = 0;
  std::array<std::uint8_t, 464> zeros{};
  std::uint32_t block_crc = 0;
};
static_assert(sizeof(GuardBlock) == kGuardBytes && offsetof(GuardBlock, block_crc) == 508);

std::span<const std::uint8_t> bytes_of(const GuardBlock& block) {
  return {reinterpret_cast<const std::uint8_t*>(&block), sizeof block};
}

std::uint32_t crc_of_block(const GuardBlock& block) {
  return crc32c(bytes_of(block).first(offsetof(GuardBlock, block_crc)));
}

/// Calls visit(offset, bytes of a buffer) over a range in pieces.
template <class Visit>
void for_each_piece(ByteRange range, Visit&& visit) {
  constexpr std::uint64_t kPieceBytes = 1 << 20;
  std::vector<std::uint8_t> buffer(std::min(kPieceBytes, range.size()));
  for (std::uint64_t offset = range.begin; offset < range.end; offset += buffer.size()) {
    visit(offset, std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), range.end - offset)));
  }
}

/// The two ranges that a guard covers besides its own block: before and behind the unguarded bytes.
std::array<ByteRange, 2> guarded_ranges(std::uint64_t file_bytes, ByteRange unguarded) {
  if (unguarded.size() == 0) return {ByteRange{kGuardBytes, file_bytes}, ByteRange{}};
  return {ByteRange{kGuardBytes, unguarded.begin}, ByteRange{unguarded.end, file_bytes}};
}

GuardBlock read_block(const InputFile& file) {
  GuardBlock block;
  QM_CHECK(file.size() >= kGuardBytes, IoError, file.path(), ": its ", file.size(),
           " bytes are too few for a shard or checkpoint");
  file.read(0, {reinterpret_cast<std::uint8_t*>(&block), sizeof block});
  QM_CHECK(block.magic == kMagic, IoError, file.path(), ": neither a quadmamba shard nor a checkpoint");
  QM_CHECK(block.block_crc == crc_of_block(block), IoError, file.path(), ": damaged: its first ", kGuardBytes,
           " bytes do not match their checksum");
  return block;
}

/// Verifies a file and calls visit(offset, bytes) for each piece of its guarded bytes, before they are known to be good.
template <class Visit>
Guard verify(const InputFile& file, FileKind expected, Visit&& visit) {
  const GuardBlock block = read_block(file);
  const auto kind = static_cast<FileKind>(block.kind);
  QM_CHECK(kind == expected, IoError, file.path(), ": expected a ", to_string(expected), ", found a ", to_string(kind));
  QM_CHECK(block.version <= kFormatVersion, UnreadableFile, file.path(), ": has format version ", block.version,
           "; this program reads up to version ", kFormatVersion);
  QM_CHECK(block.file_bytes == file.size(), IoError, file.path(), ": damaged: ", file.size(), " bytes long, but ",
           block.file_bytes, " were written");
  const ByteRange unguarded{block.unguarded_begin, block.unguarded_end};
  QM_CHECK(unguarded.begin <= unguarded.end && unguarded.end <= file.size() &&
               (unguarded.size() == 0 || unguarded.begin >= kGuardBytes),
           IoError, file.path(), ": its guard names bytes ", unguarded.begin, " to ", unguarded.end, " of a file of ",
           file.size());

  std::uint32_t crc = 0;
  for (const ByteRange range : guarded_ranges(file.size(), unguarded)) {
    for_each_piece(range, [&](std::uint64_t offset, std::span<std::uint8_t> piece) {
      file.read(offset, piece);
      crc = crc32c(piece, crc);
      visit(offset, piece);
    });
  }
  QM_CHECK(crc == block.contents_crc, IoError, file.path(), ": damaged: its contents do not match their checksum");
  return {kind, block.version, block.file_bytes, unguarded};
}

}  // namespace

std::string_view to_string(FileKind kind) {
  switch (kind) {
    case FileKind::kShard:
      return "shard";
    case FileKind::kCheckpoint:
      return "checkpoint";
  }
  return "file of unknown kind";
}

Guard read_guard(const InputFile& file) {
  const GuardBlock block = read_block(file);
  return {
      static_cast<FileKind>(block.kind), block.version, block.file_bytes, {block.unguarded_begin, block.unguarded_end}};
}

Guard read_guarded(const InputFile& file, FileKind expected, MemoryImage& image) {
  image.resize(0);
  const Guard guard = verify(file, expected, [&](auto offset, auto piece) { image.write(offset, piece); });
  image.resize(file.size());
  return guard;
}

Guard verify_guarded(const InputFile& file, FileKind expected) {
  return verify(file, expected, [](auto, auto) {});
}

void write_guarded(AtomicFile& file, FileKind kind, const MemoryImage& image, ByteRange unguarded) {
  GuardBlock block;
  block.kind = static_cast<std::uint32_t>(kind);
  block.file_bytes = image.size();
  block.unguarded_begin = unguarded.begin;
  block.unguarded_end = unguarded.end;
  for (const ByteRange range : guarded_ranges(image.size(), unguarded)) {
    for_each_piece(range, [&](std::uint64_t offset, std::span<std::uint8_t> piece) {
      image.read(offset, piece);
      block.contents_crc = crc32c(piece, block.contents_crc);
      file.write(offset, piece);
    });
  }
  block.block_crc = crc_of_block(block);
  file.write(0, bytes_of(block));
}

}  // namespace qm
