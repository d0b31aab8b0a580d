#include "tests/launch/small_project.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "data/glyphs.h"
#include "data/pack.h"

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

std::vector<std::string> lines_of(std::istream& stream) {
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

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

std::vector<std::string> SmallProject::train_arguments(const std::string& run, const TrainCall& call) const {
  std::vector<std::string> arguments{"train", recipe(), "--data", data(), "--run", folder_ / run};
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

std::vector<std::string> SmallProject::course(const std::string& run) const {
  std::vector<std::string> course;
  for (const MetricsLine& line : metrics(run, "train")) {
    course.push_back(line.text().substr(0, line.text().find(", \"images_per_second\"")));
  }
  return course;
}

std::vector<std::string> SmallProject::record(const std::string& run) const {
  std::ifstream file(folder_ / (run + "/metrics.jsonl"));
  std::vector<std::string> lines = lines_of(file);
  for (std::string& line : lines) line = line.substr(0, line.find(", \"images_per_second\""));
  return lines;
}

std::string SmallProject::hash(const std::string& checkpoint) const {
  const ProgramResult result = run_quadmamba({"inspect", "--hash", checkpoint});
  EXPECT_TRUE(result.succeeded()) << result.describe();
  EXPECT_EQ(result.out.size(), 65u) << result.describe();  // SHA-256 in hex and a newline
  return result.out;
}

ProgramResult run_on_ranks(int ranks, const std::vector<std::string>& arguments, RunOptions options) {
  if (ranks > 1) return run_quadmamba_ranks(ranks, arguments, options);
  options.environment.push_back("OMP_NUM_THREADS=1");
  return run_quadmamba(arguments, options);
}

std::vector<std::string> error_lines(const ProgramResult& result) {
  std::istringstream stream(result.error);
  std::vector<std::string> lines = lines_of(stream);
  std::erase_if(lines, [](const std::string& line) { return !line.starts_with("quadmamba"); });
  return lines;
}

void expect_refused(const ProgramResult& result, const std::vector<std::string>& parts) {
  EXPECT_TRUE(result.exit_code == 1 || result.exit_code == 2) << result.describe();
  const std::vector<std::string> lines = error_lines(result);
  ASSERT_FALSE(lines.empty()) << result.describe();
  const bool under_mpirun = lines.front().starts_with("quadmamba [rank ");
  if (!under_mpirun) {
    EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.describe();
  }
  for (const std::string& part : parts) {
    EXPECT_NE(lines.front().find(part), std::string::npos) << "expected '" << part << "' in\n" << result.describe();
  }
}

}  // namespace qm
