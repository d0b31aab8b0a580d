#include "dist/attendance.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <ctime>
#include <optional>
#include <string>
#include <utility>

#include "dist/rank_names.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

/// The launcher's folder is `folder` for processes made meanwhile; "" for none.
class LauncherFolder {
 public:
  explicit LauncherFolder(const std::string& folder) {
    if (const char* before = std::getenv(kVariable)) before_ = before;
    folder.empty() ? unsetenv(kVariable) : setenv(kVariable, folder.c_str(), 1);
  }
  ~LauncherFolder() { before_ ? setenv(kVariable, before_->c_str(), 1) : unsetenv(kVariable); }
  LauncherFolder(const LauncherFolder&) = delete;
  LauncherFolder& operator=(const LauncherFolder&) = delete;

 private:
  static constexpr const char* kVariable = "PMIX_SERVER_TMPDIR";
  std::optional<std::string> before_;
};

TEST(dist, attendance_names_ranks_that_give_no_sign_or_no_longer) {
  const TemporaryFolder folder;
  const LauncherFolder launcher(folder / "");
  const Attendance first(0, 3, 3), last(2, 3, 3);
  first.sign();
  EXPECT_EQ(first.silent(), "no sign of ranks 1, 2");
  last.sign();
  EXPECT_EQ(first.silent(), "no sign of rank 1");
  Attendance(1, 3, 3).sign();
  EXPECT_EQ(first.silent(), "every process of this host gives signs of life");
  const timespec long_ago[2] = {{.tv_sec = 1000, .tv_nsec = 0}, {.tv_sec = 1000, .tv_nsec = 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, (folder / "quadmamba.rank-2").c_str(), long_ago, 0), 0);
  EXPECT_EQ(first.silent(), "no sign of rank 2");
  last.sign();
  EXPECT_EQ(first.silent(), "every process of this host gives signs of life");
}

TEST(dist, attendance_counts_where_ranks_are_on_several_hosts) {
  const TemporaryFolder folder;
  const LauncherFolder launcher(folder / "");
  const Attendance fifth(5, 8, 2);
  fifth.sign();
  EXPECT_EQ(fifth.silent(), "no sign of 1 of the 2 processes of this host");
  Attendance(4, 8, 2).sign();
  EXPECT_EQ(fifth.silent(), "every process of this host gives signs of life");
  EXPECT_EQ(fifth.name(), "rank 5 on " + name_of_host());
  EXPECT_EQ(Attendance(-1, -1, -1).name(), "a process on " + name_of_host());
}

TEST(dist, attendance_lets_one_process_of_a_host_speak) {
  std::optional<TemporaryFolder> folder(std::in_place);
  const LauncherFolder launcher(*folder / "");
  const Attendance first(0, 2, 2), second(1, 2, 2), alone(0, 1, 1);
  EXPECT_TRUE(second.is_first());
  EXPECT_FALSE(first.is_first());
  EXPECT_TRUE(alone.is_first());
  folder.reset();  // the launcher has begun to end the job
  EXPECT_FALSE(second.is_first());
}

TEST(dist, attendance_without_a_launchers_folder_knows_nothing) {
  const LauncherFolder launcher("");
  const Attendance rank(0, 2, 2);
  rank.sign();
  EXPECT_EQ(rank.silent(), "some process has not started, is frozen or lost");
  EXPECT_TRUE(rank.is_first());
  EXPECT_TRUE(rank.is_first());
}

}  // namespace
}  // namespace qm
