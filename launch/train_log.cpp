#include "launch/train_log.h"

#include <cstdio>

#include "kernels/base/error.h"

namespace qm {
namespace {

std::string duration(double seconds) {
  const auto total = static_cast<long long>(seconds + 0.5);
  char text[32];
  std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", total / 3600, total / 60 % 60, total % 60);
  return text;
}

std::string formatted(const char* format, auto... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

}  // namespace

void TrainLog::line(const std::string& text) {
  if (folder_) folder_->log(text);
}

void TrainLog::start(std::int64_t step) {
  interval_start_ = Clock::now();
  interval_first_step_ = step;
}

void TrainLog::step(const StepReport& report) {
  if (!folder_) return;
  const double seconds = std::chrono::duration<double>(Clock::now() - interval_start_).count();
  const auto steps = static_cast<double>(report.step - interval_first_step_);
  const double images_per_second = steps * static_cast<double>(report.global_batch) / seconds;
  const double wait = 100 * (report.wait_seconds - interval_wait_) / seconds;
  const double eta = seconds / steps * static_cast<double>(report.end_step - report.step);
  const double epoch = static_cast<double>(report.step) / static_cast<double>(report.steps_per_epoch);

  folder_->log(
      formatted("epoch %.2f/%lld  step %lld/%lld  loss %.4f  norm %.3f  lr %.3e  %.0f img/s  wait %.1f%%  "
                "memory %lld MiB  eta %s",
                epoch, static_cast<long long>(report.epochs), static_cast<long long>(report.step),
                static_cast<long long>(report.end_step), report.loss, report.grad_norm, report.learning_rate,
                images_per_second, wait, static_cast<long long>(report.memory_bytes >> 20), duration(eta).c_str()));
  folder_->record(JsonLine()
                      .add("kind", std::string("train"))
                      .add("step", report.step)
                      .add("epoch", epoch)
                      .add("loss", report.loss)
                      .add("grad_norm", report.grad_norm)
                      .add("learning_rate", report.learning_rate)
                      .add("images_per_second", images_per_second)
                      .add("data_wait_percent", wait)
                      .add("memory_bytes", report.memory_bytes)
                      .add("eta_seconds", eta));
  interval_start_ = Clock::now();
  interval_wait_ = report.wait_seconds;
  interval_first_step_ = report.step;
}

void TrainLog::evaluation(std::int64_t step, std::int64_t epoch, const std::string& weights, const EvalResult& result) {
  if (!folder_) return;
  folder_->log(concat("evaluation at step ", step, ", ", weights, " weights: ", result.text()));
  folder_->record(JsonLine()
                      .add("kind", std::string("eval"))
                      .add("step", step)
                      .add("epoch", epoch)
                      .add("weights", weights)
                      .add("top1", result.top1)
                      .add("top5", result.top5)
                      .add("loss", result.loss)
                      .add("count", result.count));
}

}  // namespace qm
