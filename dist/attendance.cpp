#include "dist/attendance.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <vector>

#include "dist/rank_names.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

/// Signs come twice a second; a busy machine may keep a process from it for a while.
constexpr double kFreshSeconds = 4;

double seconds_of(const timespec& time) {
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Of its last sign; nothing where there is none. The files of a host are stamped by one clock.
std::optional<double> age_of(const std::string& file) {
  struct stat status;
  timespec now{};
  if (::stat(file.c_str(), &status) != 0 || ::clock_gettime(CLOCK_REALTIME, &now) != 0) return std::nullopt;
  return seconds_of(now) - seconds_of(status.st_mtim);
}

}  // namespace

Attendance::Attendance(int rank, int size, int local_size) : rank_(rank), size_(size), local_size_(local_size) {
  const char* folder = std::getenv("PMIX_SERVER_TMPDIR");
  if (folder && ::access(folder, W_OK | X_OK) == 0) folder_ = folder;
}

std::string Attendance::file_of(int rank) const {
  return concat(folder_, "/quadmamba.rank-", rank);
}

std::string Attendance::name() const {
  return concat(rank_ < 0 ? "a process" : concat("rank ", rank_), " on ", name_of_host());
}

void Attendance::sign() const {
  if (folder_.empty() || rank_ < 0) return;
  const int descriptor = ::open(file_of(rank_).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) return;
  ::futimens(descriptor, nullptr);  // now
  ::close(descriptor);
}

std::string Attendance::silent() const {
  if (folder_.empty() || size_ < 0) return "some process has not started, is frozen or lost";
  std::vector<int> silent;
  int never = local_size_;
  for (int rank = 0; rank < size_; ++rank) {
    const std::optional<double> age = age_of(file_of(rank));
    if (age) --never;
    // Which ranks another host has, nobody knows yet.
    if (age ? *age > kFreshSeconds : local_size_ == size_) silent.push_back(rank);
  }
  if (!silent.empty()) return "no sign of " + names_of_ranks(silent);
  if (never > 0) return concat("no sign of ", never, " of the ", local_size_, " processes of this host");
  return "every process of this host gives signs of life";
}

bool Attendance::is_first() const {
  if (folder_.empty() || size_ == 1) return true;  // the folder may be that of a shell which runs one after another
  const std::string file = folder_ + "/quadmamba.last-word";
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor >= 0) ::close(descriptor);
  return descriptor >= 0 || (errno != EEXIST && errno != ENOENT);  // the folder goes when the job has begun to end
}

}  // namespace qm
