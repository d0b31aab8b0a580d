#include "kernels/base/fault.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <string_view>
#include <thread>

#include "kernels/base/error.h"

namespace qm {
namespace {

/// What kill() sends; 0 for the actions that are no signals.
struct Action {
  std::string_view name;
  int signal;
};
constexpr std::array<Action, 9> kActions{{{"kill", SIGKILL},
                                          {"stop", SIGSTOP},
                                          {"term", SIGTERM},
                                          {"int", SIGINT},
                                          {"hup", SIGHUP},
                                          {"usr1", SIGUSR1},
                                          {"usr2", SIGUSR2},
                                          {"slow", 0},
                                          {"fail", 0}}};
constexpr std::chrono::seconds kSlow{6};
constexpr std::array<std::string_view, 16> kPoints{
    "index",       "shard",      "load",        "start",     "step",        "loss",        "evaluate", "pack",
    "file-create", "file-write", "file-damage", "file-sync", "file-rename", "folder-sync", "prune",    "end"};

struct Fault {
  Action action;
  std::string point;
  std::int64_t occurrence = 1;
  std::atomic<std::int64_t> passed{0};
};

Fault the_fault;
std::atomic<bool> armed{false};

/// Takes the text up to `separator`, and the separator, off the front; all of it where there is none.
std::string_view take_until(std::string_view& text, std::string_view separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + separator.size(), text.size()));
  return part;
}

/// The number, or −1 if it is none.
std::int64_t number_in(std::string_view text) {
  std::int64_t number = -1;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() ? number : -1;
}

}  // namespace

void arm_fault(const std::string& spec, int rank) {
  std::string_view where = spec;
  std::string_view place = take_until(where, ",rank=");
  const std::string_view action = take_until(place, "@");
  const bool counted = place.find(':') != std::string_view::npos;
  const std::string_view point = take_until(place, ":");
  const std::int64_t occurrence = counted ? number_in(place) : 1;
  const bool one_rank = spec.find(",rank=") != std::string::npos;
  const std::int64_t only = one_rank ? number_in(where) : rank;
  const auto known = std::ranges::find(kActions, action, &Action::name);
  QM_CHECK(known != kActions.end() && std::ranges::count(kPoints, point) && occurrence > 0 && only >= 0,
           ConfigError, "fault '", spec, "': expected ACTION@POINT[:N][,rank=R]; see kernels/base/fault.h");
  if (only != rank) return;
  the_fault.action = *known;
  the_fault.point = point;
  the_fault.occurrence = occurrence;
  the_fault.passed = 0;
  armed = true;
}

bool fault_point(const char* point) {
  if (!armed.load(std::memory_order_acquire) || the_fault.point != point) return false;
  if (++the_fault.passed != the_fault.occurrence) return false;
  if (the_fault.action.name == "fail") return true;
  if (the_fault.action.name == "slow") std::this_thread::sleep_for(kSlow);
  if (the_fault.action.signal != 0) kill(getpid(), the_fault.action.signal);
  return false;
}

}  // namespace qm
