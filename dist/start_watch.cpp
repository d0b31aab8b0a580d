#include "dist/start_watch.h"

#include <utility>

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
      thread_([this] { run(); }) {}

StartWatch::~StartWatch() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void StartWatch::run() {
  const auto end = std::chrono::steady_clock::now() + deadline_;
  std::unique_lock lock(mutex_);
  do {
    attendance_.sign();
    if (std::chrono::steady_clock::now() < end) continue;
    expired_(concat(attendance_.name(), ": ", operation_, ": not done after ", deadline_.count(), " s; ",
                    attendance_.silent()));
    return;
  } while (!changed_.wait_for(lock, kSignEvery, [this] { return over_; }));
}

}  // namespace qm
