#include "dist/start_watch.h"

#include <utility>

#include "dist/awake_clock.h"
#include "dist/nap.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

constexpr std::chrono::milliseconds kSignEvery{500};

}  // namespace

StartWatch::StartWatch(const Attendance& attendance, std::string operation, std::chrono::seconds deadline,
                       std::function<void(const std::string&)> expired)
    : attendance_(attendance),
      operation_(std::move(operation)),
      deadline_(deadline),
      expired_(std::move(expired)),
      thread_([this](const std::stop_token& end) { run(end); }) {}

void StartWatch::run(const std::stop_token& end) const {
  AwakeClock clock;
  const auto latest = clock.now() + deadline_;
  do {
    attendance_.sign();
    if (clock.now() < latest) continue;
    expired_(concat(attendance_.name(), ": ", operation_, ": not done after ", deadline_.count(), " s; ",
                    attendance_.silent()));
    return;
  } while (!ends_within(end, kSignEvery));
}

}  // namespace qm
