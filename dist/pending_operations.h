// PendingOperations: what was started, is not known to be done, and since when it has been its turn.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

namespace qm {

/// Operations that run one after another, each of which must be done within a deadline: counted from its start, or from
/// when the one before was seen to be done where that is later, since a host may queue work far ahead of its GPU. One
/// thread starts them, another looks.
class PendingOperations {
 public:
  using Clock = std::chrono::steady_clock;
  /// Whether the operation is done. Called by the thread that looks; must not throw or wait.
  using Done = std::function<bool()>;

  struct Overdue {
    std::string name;
    std::uint64_t number = 0;  ///< among those started, from 1
  };

  explicit PendingOperations(Clock::duration deadline) : deadline_(deadline) {}

  void start(std::string name, Done done, Clock::time_point now = Clock::now());
  /// Forgets what is done. The first that is not, if its deadline has passed.
  std::optional<Overdue> look(Clock::time_point now = Clock::now());
  /// The first that was not done when look() looked last; "" if there was none.
  std::string current() const;
  /// Operations started so far.
  std::uint64_t started() const;

 private:
  struct Operation {
    std::string name;
    Done done;
    Clock::time_point since;
  };

  Clock::duration deadline_;
  mutable std::mutex mutex_;
  std::deque<Operation> operations_;
  std::uint64_t started_ = 0;
};

}  // namespace qm
