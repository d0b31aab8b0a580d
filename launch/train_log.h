// What a training run says while it runs: lines on stdout and in log.txt, objects in metrics.jsonl.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "launch/evaluator.h"
#include "launch/run_folder.h"

namespace qm {

/// What a log line reports about a step; clocks are TrainLog's.
struct StepReport {
  std::int64_t step = 0, end_step = 0;  ///< optimizer steps done, and those of the whole run
  std::int64_t steps_per_epoch = 0, epochs = 0, global_batch = 0;
  double loss = 0, grad_norm = 0, learning_rate = 0;
  double wait_seconds = 0;        ///< since the run's start, that the device had no work for want of data, at most
  std::int64_t memory_bytes = 0;  ///< peak
};

/// The log of one run, on every rank; only rank 0, which has the run folder, writes. Rates are those since the last
/// step logged, time spent on anything but training left out.
class TrainLog {
 public:
  using Clock = std::chrono::steady_clock;

  /// Writes to `folder`, which must outlive it; nowhere if it is null.
  explicit TrainLog(RunFolder* folder = nullptr) : folder_(folder) {}

  void line(const std::string& text);
  /// From here on the clock runs: training begins after `step` steps.
  void start(std::int64_t step);
  void step(const StepReport& report);
  void evaluation(std::int64_t step, std::int64_t epoch, const std::string& weights, const EvalResult& result);
  /// Takes `time` out of the rates: an evaluation, say.
  void leave_out(Clock::duration time) { interval_start_ += time; }

 private:
  RunFolder* folder_;
  Clock::time_point interval_start_ = Clock::now();
  double interval_wait_ = 0;
  std::int64_t interval_first_step_ = 0;
};

}  // namespace qm
