#include "dist/mpi_wait.h"

#include <sched.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "dist/awake_clock.h"
#include "dist/mpi_check.h"
#include "dist/rank_names.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

using Clock = AwakeClock::Clock;
using Seconds = MpiWaiter::Seconds;

constexpr int kCall = 1, kAnswer = 2;  // tags
/// A waiting rank looks for roll calls this often.
constexpr Seconds kLookEvery{0.02};
/// How long answers may take: many looks of a rank that waits, on a busy machine.
constexpr Seconds kGrace{2};
/// So long a wait polls, leaving the core to whoever wants it now and then; after that it sleeps between polls.
constexpr Seconds kPoll{1};
constexpr int kPollsAtOnce = 64;
constexpr std::chrono::microseconds kNap{100};

/// A message of no bytes. Its request is dropped: it completes on its own or the job ends.
void send_token(int peer, int tag, MPI_Comm comm) {
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Isend(nullptr, 0, MPI_BYTE, peer, tag, comm, &request), "MPI_Isend of a roll call", peer);
  check_mpi(MPI_Request_free(&request), "MPI_Request_free");
}

/// Takes the next token of this tag; the rank that sent it, or −1 if there is none.
int take_token(int tag, MPI_Comm comm) {
  int found = 0;
  MPI_Status status;
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag, comm, &found, &status), "MPI_Iprobe");
  if (!found) return -1;
  check_mpi(MPI_Recv(nullptr, 0, MPI_BYTE, status.MPI_SOURCE, tag, comm, MPI_STATUS_IGNORE), "MPI_Recv",
            status.MPI_SOURCE);
  return status.MPI_SOURCE;
}

}  // namespace

void check_started(int status, const char* operation) {
  check_mpi(status, operation);
}

MPI_Comm duplicate_world() {
  MPI_Comm comm = MPI_COMM_NULL;
  environment_waiter->run("MPI_Comm_idup",
                          [&](MPI_Request* request) { return MPI_Comm_idup(MPI_COMM_WORLD, &comm, request); });
  const std::lock_guard lock(mpi_lock);
  check_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return comm;
}

MpiWaiter::MpiWaiter(MPI_Comm calls, Seconds deadline, std::function<void(const std::string&)> report)
    : deadline_(deadline), report_(std::move(report)), comm_(calls) {
  const std::lock_guard lock(mpi_lock);
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
}

void MpiWaiter::wait(MPI_Request& request, const char* operation) {
  AwakeClock clock;
  const auto start = clock.now();
  auto next_look = start + std::chrono::duration_cast<Clock::duration>(kLookEvery);
  for (;;) {
    int done = 0;
    {
      const std::lock_guard lock(mpi_lock);
      for (int poll = 0; poll < kPollsAtOnce && !done; ++poll) {
        check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), operation);
      }
    }
    if (done) return;
    const auto now = clock.now();
    const Seconds waited = now - start;
    if (now >= next_look) {
      answer_roll_calls();
      next_look = now + std::chrono::duration_cast<Clock::duration>(kLookEvery);
    }
    if (waited > deadline_) {
      const std::string silent = silent_ranks();
      const std::string what =
          concat("MPI ", name_of_rank(rank_), ": ", operation, ": not done after ", deadline_.count(), " s; ",
                 silent.empty() ? "every rank is waiting for another" : "no sign of " + silent);
      if (report_) report_(what);
      throw CommError(what);
    }
    if (waited < kPoll) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
}

void MpiWaiter::answer_roll_calls() {
  const std::lock_guard lock(mpi_lock);
  for (int caller = take_token(kCall, comm_); caller >= 0; caller = take_token(kCall, comm_)) {
    send_token(caller, kAnswer, comm_);
  }
}

std::string MpiWaiter::silent_ranks() {
  std::vector<bool> heard(static_cast<std::size_t>(size_));
  heard[static_cast<std::size_t>(rank_)] = true;
  {
    const std::lock_guard lock(mpi_lock);
    for (int peer = 0; peer < size_; ++peer) {
      if (peer != rank_) send_token(peer, kCall, comm_);
    }
  }
  AwakeClock clock;
  const auto end = clock.now() + std::chrono::duration_cast<Clock::duration>(kGrace);
  while (clock.now() < end && std::ranges::count(heard, false) > 0) {
    answer_roll_calls();  // of others whose deadline has come too
    int peer;
    {
      const std::lock_guard lock(mpi_lock);
      peer = take_token(kAnswer, comm_);
    }
    if (peer >= 0) {
      heard[static_cast<std::size_t>(peer)] = true;
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
  std::vector<int> silent;
  for (int peer = 0; peer < size_; ++peer) {
    if (!heard[static_cast<std::size_t>(peer)]) silent.push_back(peer);
  }
  return names_of_ranks(silent);
}

}  // namespace qm
