// Training runs of a second: generated glyphs, the smallest possible model, and what `quadmamba train` left behind,
// undisturbed or not.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"

namespace qm {

using Strings = std::vector<std::string>;

/// Within which a disturbed job ends, by itself: generous for a busy machine, and far below the 600 s for which ranks
/// wait for one another unless --deadline says otherwise.
inline constexpr double kJobSeconds = 60;

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
  Strings settings = {};  ///< of --set
  Strings options = {};   ///< further ones

  TrainCall with(const std::string& option) const;
};

/// Resumes a run, or starts it, to step kLastStep: 5 steps an epoch, an evaluation after each and at the end, and a
/// checkpoint every 3 steps besides those of the epochs, of which two are kept.
inline constexpr int kLastStep = 12;
TrainCall to_the_end(int ranks);

/// A SIGKILL from outside, `delay` after metrics.jsonl has grown by so many lines.
struct Kill {
  int rank = 0;
  std::size_t after_lines = 1;
  std::chrono::milliseconds delay{0};
};

struct KilledJob {
  bool killed = false;  ///< else the job came to its end before
  ProgramResult result;
  double seconds_left = 0;  ///< from the kill to the job's end
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
  Strings train_arguments(const std::string& run, const TrainCall& call = {}) const;
  ProgramResult train(const std::string& run, const TrainCall& call = {}) const;
  /// Expects that training succeeds.
  void expect_train(const std::string& run, const TrainCall& call = {}) const;
  /// Expects that the job ends, well or not, within `seconds`.
  ProgramResult train_within(double seconds, const std::string& run, const TrainCall& call) const;
  /// Each rank is started through `script`: bash whose "$@" is the command line of quadmamba. Killed after kJobSeconds.
  ProgramResult train_through(const std::string& script, const std::string& run, const TrainCall& call) const;
  /// Expects that the job, if it was killed, ended within kJobSeconds.
  KilledJob train_and_kill(const std::string& run, const TrainCall& call, const Kill& kill) const;

  std::vector<MetricsLine> metrics(const std::string& run, const std::string& kind) const;
  /// Of the train lines.
  std::vector<double> losses(const std::string& run) const;
  /// Of the train lines, the part that does not depend on the clock: step, epoch, loss, norm, learning rate.
  Strings course(const std::string& run) const;
  /// Of every line of metrics.jsonl, in order, the part that does not depend on the clock.
  Strings record(const std::string& run) const;
  /// `quadmamba inspect --hash` of a checkpoint; expects that it succeeds.
  std::string hash(const std::string& checkpoint) const;

  /// Expects of `run` what the undisturbed run `whole` left at step `last`: the same weights, the same lines of
  /// metrics.jsonl, the same files.
  void expect_like_whole(const std::string& run, int last = kLastStep) const;
  /// The same, after to_the_end(ranks).
  void expect_resumes_like_whole(const std::string& run, int ranks) const;

 private:
  TemporaryFolder folder_;
};

/// Runs `quadmamba` on so many ranks: under mpirun if there are several. One thread a rank.
ProgramResult run_on_ranks(int ranks, const Strings& arguments, RunOptions options = {});

/// The program's own lines on stderr, without what mpirun adds.
Strings error_lines(const ProgramResult& result);

/// Expects the text in what was printed, on stdout or stderr.
void expect_said(const ProgramResult& result, const std::string& text);

/// Expects exit code 1 or 2, no signal, within the time limit, and one line on stderr, which holds all of `parts`.
/// Under mpirun one rank writes that line, and mpirun adds its own.
void expect_refused(const ProgramResult& result, const Strings& parts);

}  // namespace qm
