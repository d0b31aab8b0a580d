#include "data/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "kernels/base/error.h"
#include "kernels/base/fault.h"

namespace qm {

namespace {

template <class ErrorType = IoError>
[[noreturn]] void throw_system_error(const std::string& path, const char* action) {
  const int cause = errno;  // before anything else can change it
  throw ErrorType(concat(path, ": ", action, ": ", std::generic_category().message(cause)));
}

int open_retrying(const std::string& path, int flags, mode_t mode = 0) {
  int descriptor;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

/// fault_point(), with the error of a full disk where the operation is to fail.
bool fails(const char* point) {
  if (!fault_point(point)) return false;
  errno = ENOSPC;
  return true;
}

/// A rename is durable only once its folder is.
void sync_folder_of(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const std::string folder = parent.empty() ? std::string(".") : parent.string();
  const int descriptor = open_retrying(folder, O_RDONLY | O_DIRECTORY);
  if (descriptor < 0) throw_system_error(folder, "cannot open the folder");
  const int status = fails("folder-sync") ? -1 : ::fsync(descriptor);
  const int cause = errno;
  ::close(descriptor);
  errno = cause;
  // Some network file systems cannot sync a folder and say so with EINVAL; there is nothing more to be done there.
  if (status != 0 && errno != EINVAL) throw_system_error(folder, "cannot bring the folder to the disk");
}

}  // namespace

InputFile::InputFile(std::string path) : path_(std::move(path)) {
  descriptor_ = open_retrying(path_, O_RDONLY | O_NONBLOCK);  // a pipe would wait for its writer
  if (descriptor_ < 0) throw_system_error<UnreadableFile>(path_, "cannot open");
  struct stat status;
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw IoError(concat(path_, ": not a regular file"));
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() {
  ::close(descriptor_);
}

void InputFile::read(std::uint64_t offset, std::span<std::uint8_t> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = ::pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_system_error<UnreadableFile>(path_, "cannot read");
    QM_CHECK(count > 0, IoError, path_, ": ends at byte ", offset, ", ", bytes.size(), " bytes too early");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

void InputFile::sync() const {
  if (::fsync(descriptor_) != 0) throw_system_error(path_, "cannot bring it to the disk");
}

FileLock::FileLock(const std::string& path) : descriptor_(open_retrying(path, O_RDWR | O_CREAT, 0666)) {
  if (descriptor_ < 0) throw_system_error(path, "cannot be made");
  // A process that has been killed a moment ago may still be about to end.
  constexpr int kTries = 30;
  constexpr std::chrono::milliseconds kPause{100};
  bool held = true;
  for (int attempt = 0; held && attempt < kTries; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(kPause);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
    held = errno == EWOULDBLOCK || errno == EINTR;
  }
  ::close(descriptor_);
  QM_CHECK(!held, IoError, path, ": another process is at work in this folder");
  // A file system without locks: then there is none to keep.
  descriptor_ = -1;
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::vector<std::uint8_t> read_file(const std::string& path) {
  const InputFile file(path);
  std::vector<std::uint8_t> bytes(file.size());
  file.read(0, bytes);
  return bytes;
}

std::optional<FileStamp> stamp_of(const std::string& path) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return FileStamp{.bytes = static_cast<std::uint64_t>(status.st_size),
                   .modified = status.st_mtim.tv_sec * kSecond + status.st_mtim.tv_nsec,
                   .changed = status.st_ctim.tv_sec * kSecond + status.st_ctim.tv_nsec};
}

void move_file(const std::string& from, const std::string& to) {
  if (fails("file-rename") || ::rename(from.c_str(), to.c_str()) != 0) {
    throw_system_error(to, "cannot rename the finished file");
  }
  sync_folder_of(to);
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), temporary_(path_ + ".tmp") {
  descriptor_ = fails("file-create") ? -1 : open_retrying(temporary_, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (descriptor_ < 0) fail("cannot create");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!published_) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action) const {
  throw_system_error(path_, action);
}

void AtomicFile::write(std::uint64_t offset, std::span<const std::uint8_t> bytes) {
  std::vector<std::uint8_t> damaged;
  if (!bytes.empty() && fault_point("file-damage")) {
    damaged.assign(bytes.begin(), bytes.end());
    damaged.front() ^= 1;
    bytes = damaged;
  }
  while (!bytes.empty()) {
    if (fails("file-write")) fail("cannot write");
    const ssize_t count = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("cannot write");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

void AtomicFile::finish() {
  if (fails("file-sync") || ::fsync(descriptor_) != 0) fail("cannot bring it to the disk");
  // Network file systems report a full disk as late as here.
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("cannot close");
}

void AtomicFile::publish() {
  QM_CHECK(descriptor_ < 0 && !published_, Error, path_, ": publish() comes once, after finish()");
  move_file(temporary_, path_);
  published_ = true;
}

}  // namespace qm
