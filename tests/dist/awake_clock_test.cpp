#include "dist/awake_clock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "dist/start_watch.h"

namespace qm {
namespace {

using namespace std::chrono_literals;

/// 2 s of work in small portions.
void work() {
  for (int portion = 0; portion < 20; ++portion) std::this_thread::sleep_for(100ms);
}

/// What `run` returns in a process that is stopped for 6 s soon after its start.
int exit_code_when_suspended(int (*run)()) {
  const pid_t child = fork();
  if (child == 0) _exit(run());
  std::this_thread::sleep_for(500ms);
  kill(child, SIGSTOP);
  std::this_thread::sleep_for(6s);
  kill(child, SIGCONT);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(dist, awake_clock_runs_like_any_other_while_it_is_looked_at) {
  AwakeClock clock;
  const auto start = clock.now(), real_start = AwakeClock::Clock::now();
  for (int look = 0; look < 30; ++look) {
    std::this_thread::sleep_for(50ms);
    clock.now();
  }
  const auto passed = clock.now() - start, real = AwakeClock::Clock::now() - real_start;
  EXPECT_LE(passed, real + 100ms);
  EXPECT_GE(passed, 1400ms);
}

TEST(dist, a_deadline_does_not_run_while_the_process_is_suspended) {
  const int expired = exit_code_when_suspended([] {
    std::atomic<bool> is_expired = false;
    const Attendance attendance(0, 1, 1);
    const StartWatch watch(attendance, "the start", 5s, [&](const std::string&) { is_expired = true; });
    work();
    return is_expired ? 1 : 0;
  });
  EXPECT_EQ(expired, 0);
}

}  // namespace
}  // namespace qm
