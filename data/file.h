// Files: positioned reads, and writes that appear whole or not at all.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/error.h"

namespace qm {

/// A file that may well be sound, but that this process cannot read: for want of a permission, of descriptors, of a
/// disk that answers, or because a newer program wrote it. Another file in its place would not be what was asked for.
class UnreadableFile : public IoError {
 public:
  using IoError::IoError;
};

/// A file open for reading. Errors are of one line, "FILE: what failed: the system's reason": UnreadableFile, and
/// IoError for what is no regular file or ends too early.
class InputFile {
 public:
  explicit InputFile(std::string path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  /// Bytes in the file when it was opened.
  std::uint64_t size() const { return size_; }
  /// Fills `bytes` from `offset`. Thread-safe. Throws IoError if the file ends before.
  void read(std::uint64_t offset, std::span<std::uint8_t> bytes) const;
  /// Brings to the disk what others have written to it.
  void sync() const;

 private:
  std::string path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// A file that one process at a time holds open as its own, made where there is none; free again when the process ends,
/// however it does.
class FileLock {
 public:
  /// Throws IoError where another process goes on holding it for three seconds, or it cannot be made.
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_;
};

/// The whole of a regular file. Throws IoError.
std::vector<std::uint8_t> read_file(const std::string& path);

/// What differs where a file was written to or replaced. Times are nanoseconds since 1970.
struct FileStamp {
  std::uint64_t bytes = 0;
  std::int64_t modified = 0;  ///< last write; copying programs may set it back
  std::int64_t changed = 0;   ///< last change of any kind, which no program can set
};
/// Of the file that a path leads to, through links; nothing where there is none.
std::optional<FileStamp> stamp_of(const std::string& path);

/// Renames a file within its file system, over one that has the name `to`, and brings the folder to the disk. Throws
/// IoError.
void move_file(const std::string& from, const std::string& to);

/// A file under construction: written as `<path>.tmp` beside its final place, it takes the name `path` in publish().
/// Destroyed before that, it removes what it wrote, so that `path` holds the old file or the new one, never a part.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::string& path() const { return path_; }
  /// Where its contents are until publish().
  const std::string& temporary_path() const { return temporary_; }
  /// Writes at any offset; gaps read as zeros.
  void write(std::uint64_t offset, std::span<const std::uint8_t> bytes);
  /// Brings the contents to the disk and closes the file.
  void finish();
  /// After finish(): renames and brings the folder to the disk.
  void publish();

 private:
  [[noreturn]] void fail(const char* action) const;

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  bool published_ = false;
};

}  // namespace qm
