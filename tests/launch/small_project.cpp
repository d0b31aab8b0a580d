#include "tests/launch/small_project.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <future>
#include <sstream>

#include "data/glyphs.h"
#include "data/pack.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

constexpr const char* kRecipe = R"(
seed = 5
precision = "fp64"

[model]
dim = 8
depths = [1, 1, 1, 1]
classes = 10
image_size = 32
drop_path = 0.2

[data]
threads = 1

[augment]
crop = "pad"
padding = 4
flip = 0.5
rand_augment = "rand-m9-mstd0.5-inc1"
color_jitter = [0.4, 0.4, 0.4, 0.1]
erase_probability = 0.25

[mix]
mixup = 0.8
cutmix = 1.0
group = 8

[train]
global_batch = 24
epochs = 10
label_smoothing = 0.1
ema_decay = 0.9
log_every = 1

[optimizer]
learning_rate = 2e-3

[schedule]
warmup_epochs = 1
)";

Strings lines_of(std::istream& stream) {
  Strings lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::size_t lines_in(const std::string& file) {
  const std::vector<std::uint8_t> bytes = bytes_of_file(file);
  return static_cast<std::size_t>(std::count(bytes.begin(), bytes.end(), '\n'));
}

/// Runs `quadmamba` on so many ranks, each through `script` as in SmallProject::train_through().
ProgramResult run_through(const std::string& script, int ranks, const Strings& arguments, double timeout_seconds) {
  Strings command;
  if (ranks > 1) command = {path_of_mpirun(), "--oversubscribe", "-np", std::to_string(ranks)};
  command.insert(command.end(), {"bash", "-c", script, "bash", path_of_quadmamba()});
  command.insert(command.end(), arguments.begin(), arguments.end());
  const Strings environment{"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMP_NUM_THREADS=1"};
  return run_program(command, {.environment = environment, .timeout_seconds = timeout_seconds, .folder = {}});
}

}  // namespace

TrainCall TrainCall::with(const std::string& option) const {
  TrainCall call = *this;
  call.options.push_back(option);
  return call;
}

TrainCall to_the_end(int ranks) {
  return {.ranks = ranks,
          .resume = true,
          .settings = {concat("train.max_steps=", kLastStep), "checkpoint.every_steps=3", "checkpoint.keep_last=2"}};
}

std::string MetricsLine::value(const std::string& key) const {
  const std::string label = "\"" + key + "\": ";
  const std::size_t start = text_.find(label);
  if (start == std::string::npos) {
    ADD_FAILURE() << key << " is not in " << text_;
    return "";
  }
  const std::size_t begin = start + label.size();
  std::string value = text_.substr(begin, text_.find_first_of(",}", begin) - begin);
  std::erase(value, '"');
  return value;
}

double MetricsLine::number(const std::string& key) const {
  return std::stod(value(key));
}

SmallProject::SmallProject(std::int64_t train_images, std::int64_t val_images) {
  for (const auto& [split, count] : {std::pair("train", train_images), std::pair("val", val_images)}) {
    write_glyphs(folder_ / "images", split, count, 7);
    pack({.input = folder_ / concat("images/", split), .split = split, .output = data(), .shards = 2, .threads = 1});
  }
  std::ofstream(recipe()) << kRecipe;
}

std::string SmallProject::checkpoint(const std::string& run, int step) const {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08d.h5", step);
  return folder_ / concat(run, "/checkpoints/", name);
}

Strings SmallProject::train_arguments(const std::string& run, const TrainCall& call) const {
  Strings arguments{"train", recipe(), "--data", data(), "--run", folder_ / run};
  if (call.resume) arguments.push_back("--resume");
  for (const std::string& setting : call.settings) arguments.push_back("--set=" + setting);
  arguments.insert(arguments.end(), call.options.begin(), call.options.end());
  return arguments;
}

ProgramResult SmallProject::train(const std::string& run, const TrainCall& call) const {
  return run_on_ranks(call.ranks, train_arguments(run, call));
}

void SmallProject::expect_train(const std::string& run, const TrainCall& call) const {
  const ProgramResult result = train(run, call);
  ASSERT_TRUE(result.succeeded()) << run << ": " << result.describe();
}

ProgramResult SmallProject::train_within(double seconds, const std::string& run, const TrainCall& call) const {
  const RunOptions options{.environment = {}, .timeout_seconds = 2 * seconds, .folder = {}};
  const ProgramResult result = run_on_ranks(call.ranks, train_arguments(run, call), options);
  EXPECT_LE(result.seconds, seconds) << result.describe();
  return result;
}

ProgramResult SmallProject::train_through(const std::string& script, const std::string& run,
                                          const TrainCall& call) const {
  return run_through(script, call.ranks, train_arguments(run, call), kJobSeconds);
}

KilledJob SmallProject::train_and_kill(const std::string& run, const TrainCall& call, const Kill& kill) const {
  using Clock = std::chrono::steady_clock;
  const std::string pid_file = folder_ / "pid", metrics = folder_ / (run + "/metrics.jsonl");
  const std::size_t enough = lines_in(metrics) + kill.after_lines;
  const std::string script = concat("echo $$ > '", pid_file, R"('.${OMPI_COMM_WORLD_RANK:-0}; exec "$@")");
  auto running = std::async(
      std::launch::async, [&] { return run_through(script, call.ranks, train_arguments(run, call), 2 * kJobSeconds); });
  const auto ends_within = [&](auto time) { return running.wait_for(time) == std::future_status::ready; };
  bool ended = false;
  while (lines_in(metrics) < enough && !ended) ended = ends_within(std::chrono::milliseconds(5));
  if (ended || ends_within(kill.delay)) return {.result = running.get()};
  pid_t victim = 0;
  std::ifstream(concat(pid_file, ".", kill.rank)) >> victim;
  EXPECT_GT(victim, 1);
  if (victim <= 1 || ::kill(victim, SIGKILL) != 0) return {.result = running.get()};
  const auto killed = Clock::now();
  KilledJob job{.killed = true, .result = running.get()};
  job.seconds_left = std::chrono::duration<double>(Clock::now() - killed).count();
  EXPECT_LE(job.seconds_left, kJobSeconds) << job.result.describe();
  return job;
}

std::vector<MetricsLine> SmallProject::metrics(const std::string& run, const std::string& kind) const {
  std::ifstream file(folder_ / (run + "/metrics.jsonl"));
  std::vector<MetricsLine> lines;
  for (const std::string& text : lines_of(file)) {
    const MetricsLine line(text);
    if (line.value("kind") == kind) lines.push_back(line);
  }
  return lines;
}

std::vector<double> SmallProject::losses(const std::string& run) const {
  std::vector<double> losses;
  for (const MetricsLine& line : metrics(run, "train")) losses.push_back(line.number("loss"));
  return losses;
}

Strings SmallProject::course(const std::string& run) const {
  Strings course;
  for (const MetricsLine& line : metrics(run, "train")) {
    course.push_back(line.text().substr(0, line.text().find(", \"images_per_second\"")));
  }
  return course;
}

Strings SmallProject::record(const std::string& run) const {
  std::ifstream file(folder_ / (run + "/metrics.jsonl"));
  Strings lines = lines_of(file);
  for (std::string& line : lines) line = line.substr(0, line.find(", \"images_per_second\""));
  return lines;
}

std::string SmallProject::hash(const std::string& checkpoint) const {
  const ProgramResult result = run_quadmamba({"inspect", "--hash", checkpoint});
  EXPECT_TRUE(result.succeeded()) << result.describe();
  EXPECT_EQ(result.out.size(), 65u) << result.describe();  // SHA-256 in hex and a newline
  return result.out;
}

void SmallProject::expect_like_whole(const std::string& run, int last) const {
  EXPECT_EQ(hash(checkpoint(run, last)), hash(checkpoint("whole", last)));
  EXPECT_EQ(record(run), record("whole"));
  EXPECT_EQ(entries_in(folder_ / (run + "/checkpoints")), entries_in(folder_ / "whole/checkpoints"));
}

void SmallProject::expect_resumes_like_whole(const std::string& run, int ranks) const {
  const ProgramResult result = train_within(kJobSeconds, run, to_the_end(ranks));
  EXPECT_TRUE(result.succeeded()) << result.describe();
  expect_like_whole(run);
}

ProgramResult run_on_ranks(int ranks, const Strings& arguments, RunOptions options) {
  if (ranks > 1) return run_quadmamba_ranks(ranks, arguments, options);
  options.environment.push_back("OMP_NUM_THREADS=1");
  return run_quadmamba(arguments, options);
}

Strings error_lines(const ProgramResult& result) {
  std::istringstream stream(result.error);
  Strings lines = lines_of(stream);
  std::erase_if(lines, [](const std::string& line) { return !line.starts_with("quadmamba"); });
  return lines;
}

void expect_said(const ProgramResult& result, const std::string& text) {
  EXPECT_NE((result.out + result.error).find(text), std::string::npos) << "'" << text << "' in\n" << result.describe();
}

void expect_refused(const ProgramResult& result, const Strings& parts) {
  EXPECT_TRUE(result.exit_code == 1 || result.exit_code == 2) << result.describe();
  const Strings lines = error_lines(result);
  ASSERT_FALSE(lines.empty()) << result.describe();
  EXPECT_EQ(lines.size(), 1u) << result.describe();
  const bool under_mpirun = lines.front().starts_with("quadmamba [rank ");
  if (!under_mpirun) {
    EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.describe();
  }
  for (const std::string& part : parts) {
    EXPECT_NE(lines.front().find(part), std::string::npos) << "expected '" << part << "' in\n" << result.describe();
  }
}

}  // namespace qm
