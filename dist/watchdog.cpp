#include "dist/watchdog.h"

#include <exception>
#include <optional>
#include <utility>

#include "dist/nap.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

/// So often the thread looks whether something is done, has failed, or is asked for by another rank.
constexpr std::chrono::milliseconds kLookEvery{50};

}  // namespace

Watchdog::Watchdog(Settings settings)
    : settings_(std::move(settings)),
      pending_(settings_.deadline),
      roll_call_(settings_.rank, settings_.size),
      thread_([this](const std::stop_token& end) { run(end); }) {}

void Watchdog::run(const std::stop_token& end) {
  settings_.begin();
  bool reported = false;
  do {
    std::string what;
    try {
      roll_call_.answer(pending_.started());
      if (!reported) what = trouble();
    } catch (const std::exception& error) {
      what = error.what();
    }
    if (what.empty() || reported) continue;
    reported = true;
    settings_.report(what);
  } while (!ends_within(end, kLookEvery));
}

std::string Watchdog::trouble() {
  const std::optional<PendingOperations::Overdue> overdue = pending_.look(clock_.now());
  if (const std::string failure = settings_.failure(); !failure.empty()) {
    const std::string during = pending_.current();
    return concat(settings_.who, ": ", during.empty() ? "between operations" : during, ": ", failure);
  }
  if (!overdue) return "";
  const RollCall::Answers answers = roll_call_.call(pending_.started());
  return concat(settings_.who, ": ", overdue->name, ": not done after ", settings_.deadline.count(), " s; ",
                who_is_missing(answers, overdue->number));
}

}  // namespace qm
