#include "dist/pending_operations.h"

#include <algorithm>
#include <utility>

namespace qm {

void PendingOperations::start(std::string name, Done done, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  operations_.push_back({std::move(name), std::move(done), now});
  ++started_;
}

std::optional<PendingOperations::Overdue> PendingOperations::look(Clock::time_point now) {
  for (;;) {
    Operation* first;
    {
      const std::lock_guard lock(mutex_);
      if (operations_.empty()) return std::nullopt;
      first = &operations_.front();  // stays where it is while others are added behind it
    }
    // Without the lock: the thread that starts operations never waits for a driver.
    const bool done = first->done();
    Operation finished;
    const std::lock_guard lock(mutex_);
    if (!done) {
      if (now - first->since < deadline_) return std::nullopt;
      return Overdue{first->name, started_ - operations_.size() + 1};
    }
    finished = std::move(*first);
    operations_.pop_front();
    if (!operations_.empty()) operations_.front().since = std::max(operations_.front().since, now);
  }
}

std::string PendingOperations::current() const {
  const std::lock_guard lock(mutex_);
  return operations_.empty() ? "" : operations_.front().name;
}

std::uint64_t PendingOperations::started() const {
  const std::lock_guard lock(mutex_);
  return started_;
}

}  // namespace qm
