// StartWatch: a deadline for MPI's own start and end, where ranks cannot ask one another yet, or any more.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <string>
#include <thread>

#include "dist/attendance.h"

namespace qm {

/// While alive, this process gives signs of life to those of its host. Where that lasts longer than the deadline, a
/// thread calls `expired` with one line that says who waits, where, and who is silent: the thread that made the watch
/// sits in MPI and cannot be called back.
class StartWatch {
 public:
  StartWatch(const Attendance& attendance, std::string operation, std::chrono::seconds deadline,
             std::function<void(const std::string& what)> expired);
  StartWatch(const StartWatch&) = delete;
  StartWatch& operator=(const StartWatch&) = delete;

 private:
  void run(const std::stop_token& end) const;

  const Attendance& attendance_;
  const std::string operation_;
  const std::chrono::seconds deadline_;
  const std::function<void(const std::string&)> expired_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace qm
