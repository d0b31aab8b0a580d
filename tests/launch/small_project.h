// Training runs of a second: generated glyphs, the smallest possible model, and what `quadmamba train` left behind.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"

namespace qm {

/// A line of metrics.jsonl.
class MetricsLine {
 public:
  explicit MetricsLine(std::string text) : text_(std::move(text)) {}

  const std::string& text() const { return text_; }
  /// The value of a key as it stands in the line, strings without their quotes; a test failure and "" if it is absent.
  std::string value(const std::string& key) const;
  double number(const std::string& key) const;

 private:
  std::string text_;
};

struct TrainCall {
  int ranks = 1;  ///< more than one: under mpirun
  bool resume = false;
  std::vector<std::string> settings = {};  ///< of --set
  std::vector<std::string> options = {};   ///< further ones
};

/// A temporary folder with packed glyphs (splits train and val), a recipe and the runs made from them. The recipe has
/// everything on that makes a step differ from the next: crops, flips, RandAugment, colour jitter, erasing, mixup and
/// cutmix, drop path, EMA, warm-up. It trains in double precision, logs every step, and saves at the end of epochs of 5
/// steps (120 images, 24 a batch).
class SmallProject {
 public:
  explicit SmallProject(std::int64_t train_images = 120, std::int64_t val_images = 23);

  /// The path of an entry.
  std::string operator/(const std::string& entry) const { return folder_ / entry; }
  std::string recipe() const { return folder_ / "small.toml"; }
  std::string data() const { return folder_ / "shards"; }
  std::string checkpoint(const std::string& run, int step) const;

  /// The arguments of `quadmamba` that train `run`.
  std::vector<std::string> train_arguments(const std::string& run, const TrainCall& call = {}) const;
  ProgramResult train(const std::string& run, const TrainCall& call = {}) const;
  /// Expects that training succeeds.
  void expect_train(const std::string& run, const TrainCall& call = {}) const;

  std::vector<MetricsLine> metrics(const std::string& run, const std::string& kind) const;
  /// Of the train lines.
  std::vector<double> losses(const std::string& run) const;
  /// Of the train lines, the part that does not depend on the clock: step, epoch, loss, norm, learning rate.
  std::vector<std::string> course(const std::string& run) const;
  /// Of every line of metrics.jsonl, in order, the part that does not depend on the clock.
  std::vector<std::string> record(const std::string& run) const;
  /// `quadmamba inspect --hash` of a checkpoint; expects that it succeeds.
  std::string hash(const std::string& checkpoint) const;

 private:
  TemporaryFolder folder_;
};

/// Runs `quadmamba` on so many ranks: under mpirun if there are several. One thread a rank.
ProgramResult run_on_ranks(int ranks, const std::vector<std::string>& arguments, RunOptions options = {});

/// The program's own lines on stderr, without what mpirun adds.
std::vector<std::string> error_lines(const ProgramResult& result);

/// Expects exit code 1 or 2, no signal, within the time limit, and one line on stderr, which holds all of `parts`.
/// Under mpirun every rank may write that line, and mpirun adds its own.
void expect_refused(const ProgramResult& result, const std::vector<std::string>& parts);

}  // namespace qm
