// A clock for deadlines that does not run while this process is kept from running.
#pragma once

#include <algorithm>
#include <chrono>
#include <mutex>

namespace qm {

/// A job that is suspended as a whole (SIGSTOP, `scontrol suspend`, a sleeping machine) and continued later has not
/// waited meanwhile. So what passes between two looks counts for a second at most: whoever keeps a deadline by this
/// clock looks more often than that. A rank that is suspended alone is timed by the others. By any thread.
class AwakeClock {
 public:
  using Clock = std::chrono::steady_clock;

  Clock::time_point now() {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    missed_ += std::max(now - last_look_ - kMost, Clock::duration::zero());
    last_look_ = now;
    return now - missed_;
  }

 private:
  static constexpr Clock::duration kMost = std::chrono::seconds(1);

  std::mutex mutex_;
  Clock::time_point last_look_ = Clock::now();
  Clock::duration missed_{};
};

}  // namespace qm
