// Waiting for other ranks, but not for ever: a rank that is gone, frozen or lost in a loop ends the job, by name.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "dist/mpi_lock.h"

namespace qm {

/// Completes the operations of one communicator. A wait beyond the deadline turns into a roll call: every rank that
/// waits too, in whatever operation, answers; those that stay silent are named in the CommError. Used by one thread,
/// which must not hold mpi_lock.
class MpiWaiter {
 public:
  using Seconds = std::chrono::duration<double>;

  /// `calls`: for roll calls alone, over all ranks. `deadline`: of each wait. `report`, where there is one, is called
  /// with the error's text before it is thrown.
  MpiWaiter(MPI_Comm calls, Seconds deadline, std::function<void(const std::string& what)> report = {});
  MpiWaiter(const MpiWaiter&) = delete;
  MpiWaiter& operator=(const MpiWaiter&) = delete;

  /// Starts an operation with `start(MPI_Request*)`, which returns MPI's status, and waits for it.
  template <class Start>
  void run(const char* operation, Start&& start);
  /// Waits for an operation that was started; `request` is null afterwards. Throws CommError naming the operation and
  /// MPI's error, or the ranks that were not heard of.
  void wait(MPI_Request& request, const char* operation);

 private:
  void answer_roll_calls();
  /// Which ranks are waiting for others, as this one is? "rank 2", "ranks 1, 3"; "" if all are.
  std::string silent_ranks();

  int rank_ = 0, size_ = 1;
  Seconds deadline_;
  std::function<void(const std::string&)> report_;
  MPI_Comm comm_;  ///< of roll calls alone
};

/// For what comes before and beside communicators: the process's Environment makes and ends it.
inline std::unique_ptr<MpiWaiter> environment_waiter;

/// A communicator over all ranks, with MPI_ERRORS_RETURN. Collective; by environment_waiter. MPI_Comm_free, collective
/// too, would wait for ranks that failed: MPI_Finalize frees it.
MPI_Comm duplicate_world();

void check_started(int status, const char* operation);

template <class Start>
void MpiWaiter::run(const char* operation, Start&& start) {
  MPI_Request request = MPI_REQUEST_NULL;
  {
    const std::lock_guard lock(mpi_lock);
    check_started(start(&request), operation);
  }
  wait(request, operation);
}

}  // namespace qm
