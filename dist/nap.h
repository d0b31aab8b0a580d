// What a thread does between two looks at the clock.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>

namespace qm {

/// Waits so long, or until the thread is asked to end; whether it is.
inline bool ends_within(std::stop_token stop, std::chrono::milliseconds time) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  return std::condition_variable_any().wait_for(lock, stop, time, [&] { return stop.stop_requested(); });
}

}  // namespace qm
