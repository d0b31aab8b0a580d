// Watchdog: a thread that sees to it that what was queued comes to an end, or the job does.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <string>
#include <thread>

#include "dist/awake_clock.h"
#include "dist/pending_operations.h"
#include "dist/roll_call.h"

namespace qm {

/// For operations that nothing waits for on the host, or that the host waits for where it cannot look at a clock: those
/// between GPUs. A rank is at rest when nothing is pending.
class Watchdog {
 public:
  struct Settings {
    std::string who;  ///< begins the line: "NCCL rank 1"
    int rank = 0, size = 1;
    std::chrono::seconds deadline{};  ///< of each operation
    std::function<void()> begin;      ///< called by the thread before anything else
    /// What has failed meanwhile, in words; "" if nothing has. Called by the thread.
    std::function<std::string()> failure;
    /// Called once, by the thread, with one line: the operation that is overdue and the ranks that are missing, or that
    /// something failed. Where it returns, the thread goes on to answer others' calls and reports no more.
    std::function<void(const std::string& what)> report;
  };

  /// Collective.
  explicit Watchdog(Settings settings);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// From here on the operation must be done within the deadline. Every rank starts the same ones in the same order.
  void start(std::string name, PendingOperations::Done done) {
    pending_.start(std::move(name), std::move(done), clock_.now());
  }

 private:
  void run(const std::stop_token& end);
  /// What is to be reported; "" as long as all is well.
  std::string trouble();

  const Settings settings_;
  AwakeClock clock_;
  PendingOperations pending_;
  RollCall roll_call_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace qm
