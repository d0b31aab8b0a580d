#include "launch/stop.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <ctime>

namespace qm {
namespace {

constexpr long long kSameSignal = 500'000'000;  // nanoseconds

std::atomic<int> first_signal{0};
std::atomic<long long> first_time{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<long long>::is_always_lock_free,
              "a signal handler must not wait for a lock");

long long nanoseconds_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

void note_signal(int signal) {
  const long long now = nanoseconds_now();
  long long none = 0;
  if (first_time.compare_exchange_strong(none, now)) {
    first_signal = signal;
  } else if (now - none >= kSameSignal) {
    _exit(128 + signal);
  }
}

std::string name_of_signal(int signal) {
  const char* name = sigabbrev_np(signal);
  return name ? concat("SIG", name) : concat("signal ", signal);
}

}  // namespace

Stopped::Stopped(int signal) : Error("stopped by " + name_of_signal(signal)) {}

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;  // a system call under way goes on: the loops look for themselves
  for (const int signal : {SIGUSR1, SIGUSR2, SIGTERM, SIGINT}) sigaction(signal, &action, nullptr);
  struct sigaction before {};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);  // else nohup: to go on without the terminal
}

void check_stop() {
  if (const int signal = first_signal) throw Stopped(signal);
}

void check_stop(Communicator& communicator) {
  const auto signal = static_cast<int>(communicator.all_reduce_max(first_signal.load()));
  if (signal != 0) throw Stopped(signal);
}

}  // namespace qm
