#include "dist/roll_call.h"

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <mutex>
#include <thread>

#include "dist/awake_clock.h"
#include "dist/mpi_check.h"
#include "dist/mpi_lock.h"
#include "dist/mpi_wait.h"
#include "dist/rank_names.h"

namespace qm {
namespace {

constexpr int kCall = 1, kAnswer = 2;  // tags
/// How long answers may take: many looks of a rank's watchdog, on a busy machine.
constexpr std::chrono::seconds kGrace{2};
constexpr std::chrono::milliseconds kNap{5};

struct Message {
  int sender = -1;
  std::uint64_t started = 0;
};

/// The next message of this tag, if one has come. With mpi_lock held.
std::optional<Message> take(int tag, MPI_Comm comm) {
  int found = 0;
  MPI_Status status;
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag, comm, &found, &status), "MPI_Iprobe of a roll call");
  if (!found) return std::nullopt;
  Message message{status.MPI_SOURCE, 0};
  check_mpi(MPI_Recv(&message.started, 1, MPI_UINT64_T, message.sender, tag, comm, MPI_STATUS_IGNORE),
            "MPI_Recv of a roll call", message.sender);
  return message;
}

/// With mpi_lock held. MPI copies a number that short before it returns, or else it goes out while the rank lives.
void send(std::uint64_t started, int peer, int tag, MPI_Comm comm) {
  static std::deque<std::uint64_t> sent;  // what MPI may still read; a few, on the way to the end of the job
  sent.push_back(started);
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Isend(&sent.back(), 1, MPI_UINT64_T, peer, tag, comm, &request), "MPI_Isend of a roll call", peer);
  check_mpi(MPI_Request_free(&request), "MPI_Request_free");
}

}  // namespace

struct RollCall::Channel {
  MPI_Comm comm;
};

RollCall::RollCall(int rank, int size)
    : rank_(rank), size_(size), channel_(std::make_unique<Channel>(duplicate_world())) {}

RollCall::~RollCall() = default;

void RollCall::answer(std::uint64_t started) {
  const std::lock_guard lock(mpi_lock);
  while (const auto call = take(kCall, channel_->comm)) send(started, call->sender, kAnswer, channel_->comm);
}

RollCall::Answers RollCall::call(std::uint64_t started) {
  Answers answers(static_cast<std::size_t>(size_));
  answers[static_cast<std::size_t>(rank_)] = started;
  {
    const std::lock_guard lock(mpi_lock);
    for (int peer = 0; peer < size_; ++peer) {
      if (peer != rank_) send(started, peer, kCall, channel_->comm);
    }
  }
  AwakeClock clock;
  const auto end = clock.now() + kGrace;
  while (clock.now() < end && !std::ranges::all_of(answers, [](const auto& each) { return each.has_value(); })) {
    answer(started);  // others whose deadline has come too
    {
      const std::lock_guard lock(mpi_lock);
      while (const auto got = take(kAnswer, channel_->comm))
        answers[static_cast<std::size_t>(got->sender)] = got->started;
    }
    std::this_thread::sleep_for(kNap);
  }
  return answers;
}

std::string who_is_missing(const RollCall::Answers& answers, std::uint64_t number) {
  std::vector<int> silent, behind;
  for (std::size_t rank = 0; rank < answers.size(); ++rank) {
    if (!answers[rank]) {
      silent.push_back(static_cast<int>(rank));
    } else if (*answers[rank] < number) {
      behind.push_back(static_cast<int>(rank));
    }
  }
  std::string text;
  if (!silent.empty()) text = "no sign of " + names_of_ranks(silent);
  if (!behind.empty()) {
    text += (text.empty() ? "" : "; ") + names_of_ranks(behind) + (behind.size() > 1 ? " have" : " has") +
            " not come to it";
  }
  return text.empty() ? "every rank has come to it" : text;
}

}  // namespace qm
