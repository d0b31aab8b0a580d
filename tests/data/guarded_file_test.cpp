#include "data/guarded_file.h"

#include <gtest/gtest.h>

#include <cstring>

#include "data/crc32c.h"
#include "tests/support/damaged_file.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr ByteRange kUnguarded{700, 800};

/// A shard-like file of 1000 bytes: contents 1, an unguarded range of 2.
void write_sample(const std::string& path) {
  MemoryImage image;
  image.write(kGuardBytes, Bytes(1000 - kGuardBytes, 1));
  AtomicFile file(path);
  write_guarded(file, FileKind::kShard, image, kUnguarded);
  file.write(kUnguarded.begin, Bytes(kUnguarded.size(), 2));
  file.finish();
  file.publish();
}

void read_sample(const std::string& path) {
  MemoryImage image;
  read_guarded(InputFile(path), FileKind::kShard, image);
}

/// Changes a number of the guard and makes its block's checksum right again.
template <class T>
void forge(const std::string& path, std::size_t offset, T value) {
  Bytes bytes = bytes_of_file(path);
  std::memcpy(bytes.data() + offset, &value, sizeof value);
  const std::uint32_t crc = crc32c(std::span(bytes).first(508));
  std::memcpy(bytes.data() + 508, &crc, sizeof crc);
  write_bytes(path, bytes);
}

TEST(data, guarded_file_gives_back_what_is_guarded) {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  MemoryImage image;
  const Guard guard = read_guarded(InputFile(path), FileKind::kShard, image);
  EXPECT_EQ(guard.kind, FileKind::kShard);
  EXPECT_EQ(guard.version, kFormatVersion);
  EXPECT_EQ(guard.file_bytes, 1000u);
  Bytes expected(1000, 0);
  std::fill(expected.begin() + 512, expected.begin() + 700, std::uint8_t{1});
  std::fill(expected.begin() + 800, expected.end(), std::uint8_t{1});
  Bytes found(1000);
  image.read(0, found);
  EXPECT_EQ(found, expected);
}

TEST(data, guarded_file_detects_every_byte_but_the_unguarded) {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  const Bytes bytes = bytes_of_file(path);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    SCOPED_TRACE(i);
    Bytes damaged = bytes;
    damaged[i] ^= 0x10;
    write_bytes(path, damaged);
    if (i >= kUnguarded.begin && i < kUnguarded.end) {
      EXPECT_NO_THROW(read_sample(path));
    } else {
      expect_named_error(path, [&] { read_sample(path); });
    }
  }
}

TEST(data, guarded_file_detects_every_length) {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  expect_every_length_detected(path, [&] { read_sample(path); });
  EXPECT_EQ(error_of([&] { read_sample(path); }), path + ": damaged: 1001 bytes long, but 1000 were written");
}

TEST(data, guarded_file_refuses_other_kinds_and_newer_versions) {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  MemoryImage image;
  EXPECT_EQ(error_of([&] { read_guarded(InputFile(path), FileKind::kCheckpoint, image); }),
            path + ": expected a checkpoint, found a shard");
  forge<std::uint32_t>(path, 8, kFormatVersion + 1);
  EXPECT_EQ(error_of([&] { read_sample(path); }), concat(path, ": has format version ", kFormatVersion + 1,
                                                         "; this program reads up to version ", kFormatVersion));
  forge<std::uint32_t>(path, 8, kFormatVersion);
  EXPECT_NO_THROW(read_sample(path));
  for (const std::uint64_t begin : {std::uint64_t{100}, std::uint64_t{900}}) {
    forge<std::uint64_t>(path, 24, begin);
    expect_named_error(path, [&] { read_sample(path); });
  }
}

TEST(data, guarded_file_refuses_strangers) {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_bytes(path, Bytes(2000, '\x89'));
  EXPECT_EQ(error_of([&] { read_sample(path); }), path + ": neither a quadmamba shard nor a checkpoint");
  write_bytes(path, {});
  EXPECT_EQ(error_of([&] { read_sample(path); }), path + ": its 0 bytes are too few for a shard or checkpoint");
}

}  // namespace
}  // namespace qm
