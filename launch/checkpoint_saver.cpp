#include "launch/checkpoint_saver.h"

#include <cstdio>
#include <filesystem>
#include <utility>

#include "data/file.h"
#include "launch/weights.h"

namespace qm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Finite gradients can still lead to an infinite weight, which the optimizer would only notice a step later.
void check_all_finite(const Checkpoint& checkpoint) {
  const std::string where = concat("step ", checkpoint.state.step, ": ");
  check_all_finite(checkpoint.model, where + "model");
  check_all_finite(checkpoint.ema, where + "ema");
  check_all_finite(checkpoint.exp_avg, where + "optimizer/exp_avg");
  check_all_finite(checkpoint.exp_avg_sq, where + "optimizer/exp_avg_sq");
}

/// Zeros, so that the system has handed the memory out before the first copy.
Tensor on_cpu_like(const Tensor& flat) {
  return flat.defined() ? Tensor::zeros(flat.shape(), flat.dtype()) : Tensor();
}

}  // namespace

CheckpointSaver::CheckpointSaver(RunFolder& folder, std::int64_t keep_last, const ParameterStore& parameters,
                                 const AdamW& optimizer)
    : folder_(folder),
      keep_last_(keep_last),
      parameters_(parameters),
      optimizer_(optimizer),
      model_(on_cpu_like(parameters.values())),
      ema_(on_cpu_like(optimizer.ema())),
      exp_avg_(on_cpu_like(optimizer.exp_avg())),
      exp_avg_sq_(on_cpu_like(optimizer.exp_avg_sq())) {}

void CheckpointSaver::save(Checkpoint contents, SaveAs names) {
  finish();
  wait_seconds_ = std::exchange(waited_, 0);
  const auto start = Clock::now();
  contents.model = copy(parameters_.values(), model_);
  contents.exp_avg = copy(optimizer_.exp_avg(), exp_avg_);
  contents.exp_avg_sq = copy(optimizer_.exp_avg_sq(), exp_avg_sq_);
  if (optimizer_.ema().defined()) contents.ema = copy(optimizer_.ema(), ema_);
  writing_ =
      std::async(std::launch::async, [this, contents = std::move(contents), names] { return write(contents, names); });
  stall_seconds_ = wait_seconds_ + seconds_since(start);
}

std::vector<NamedTensor> CheckpointSaver::copy(const Tensor& flat, const Tensor& snapshot) const {
  snapshot.copy_from(flat);
  return named_views(parameters_, snapshot);
}

CheckpointSaver::Report CheckpointSaver::write(const Checkpoint& checkpoint, SaveAs names) const {
  const auto start = Clock::now();
  check_all_finite(checkpoint);
  folder_.sync_metrics();  // a checkpoint counts their lines
  Report report;
  const auto write_one = [&](const std::string& path) {
    write_checkpoint(path, checkpoint);
    report.paths += (report.paths.empty() ? "" : " and ") + path;
    report.bytes += std::filesystem::file_size(path);
  };
  // The best first: a run killed between the two resumes from it and writes the other.
  if (names.best) {
    folder_.keep_old_best();
    write_one(folder_.best_path());
  }
  if (names.step) {
    write_one(folder_.checkpoint_path(checkpoint.state.step));
    folder_.prune(keep_last_, checkpoint.state.step);  // only now that a newer one is known to be good
  }
  report.write_seconds = seconds_since(start);
  return report;
}

bool CheckpointSaver::done_within(std::chrono::milliseconds patience) {
  if (!writing_.valid()) return true;
  const auto start = Clock::now();
  const bool done = writing_.wait_for(patience) == std::future_status::ready;
  waited_ += seconds_since(start);
  return done;
}

void CheckpointSaver::poll() {
  if (writing_.valid() && writing_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) report();
}

void CheckpointSaver::finish() {
  if (!writing_.valid()) return;
  const auto start = Clock::now();
  writing_.wait();
  waited_ += seconds_since(start);
  report();
}

void CheckpointSaver::report() {
  const Report written = writing_.get();
  const double megabytes = static_cast<double>(written.bytes) / 1e6;
  char text[160];
  std::snprintf(text, sizeof text,
                ": training stalled %.1f ms, %.1f ms of them for the write before; %.1f MB in %.2f s",
                1e3 * stall_seconds_, 1e3 * wait_seconds_, megabytes, written.write_seconds);
  folder_.log("saved " + written.paths + text);
}

}  // namespace qm
