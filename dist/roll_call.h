// RollCall: how far the other ranks are, whatever their main threads are doing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace qm {

/// Over a channel of its own, by one thread of each rank, which holds mpi_lock only for a look at a time. All throw
/// CommError.
class RollCall {
 public:
  /// By rank: the operations it has started; nothing for a rank that did not answer.
  using Answers = std::vector<std::optional<std::uint64_t>>;

  /// Collective; by the thread that made the Environment.
  RollCall(int rank, int size);
  ~RollCall();
  RollCall(const RollCall&) = delete;
  RollCall& operator=(const RollCall&) = delete;

  /// Answers the calls that have come: this rank has started so many operations.
  void answer(std::uint64_t started);
  /// Asks all others, for two seconds at most, and answers them meanwhile.
  Answers call(std::uint64_t started);

 private:
  struct Channel;

  int rank_, size_;
  std::unique_ptr<Channel> channel_;
};

/// What the answers say about operation `number`, counted from 1: "no sign of rank 2", "rank 1 has not come to it",
/// both, or "every rank has come to it".
std::string who_is_missing(const RollCall::Answers& answers, std::uint64_t number);

}  // namespace qm
