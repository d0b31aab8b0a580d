// Real images: CIFAR-10 packs, verifies, and a nano learns from it on two ranks.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <numeric>

#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kArchive = QM_SOURCE_DIR "/../shared/data/cifar10.tar.gz";

std::string succeed(const ProgramResult& result) {
  EXPECT_TRUE(result.succeeded()) << result.describe();
  return result.out;
}

double mean(const std::vector<MetricsLine>& lines, std::size_t first, std::size_t last, const std::string& key) {
  double sum = 0;
  for (std::size_t i = first; i < last; ++i) sum += lines.at(i).number(key);
  return sum / static_cast<double>(last - first);
}

void pack_and_verify(const SmallProject& project, const std::string& split) {
  const std::string shards = project / "cifar10-shards";
  succeed(run_quadmamba(
      {"pack", "--input", project / concat("cifar10/", split), "--split", split, "--output", shards, "--shards", "2"}));
  for (const char* number : {"00000", "00001"}) {
    const std::string file = concat(shards, "/", split, "-", number, "-of-00002.h5");
    const std::string text = succeed(run_quadmamba({"inspect", file}));
    for (const char* part : {"every byte verified", "sides 32 to 32", "classes        10", "airplane", "truck"}) {
      EXPECT_NE(text.find(part), std::string::npos) << part << " is not in\n" << text;
    }
  }
}

void train_on_two_ranks(const SmallProject& project) {
  const Strings arguments{"train",
                          QM_SOURCE_DIR "/recipes/cifar10_nano.toml",
                          "--data",
                          project / "cifar10-shards",
                          "--run",
                          project / "run",
                          "--set",
                          "train.log_every=5"};
  succeed(run_quadmamba_ranks(2, arguments, {.environment = {}, .timeout_seconds = 1800, .folder = {}}));
}

TEST(launch, cifar10_slow_nano_learns_on_two_ranks) {
  if (!fs::exists(kArchive)) GTEST_SKIP() << kArchive << " is not there";
  const SmallProject project(24, 10);
  succeed(run_program({"tar", "xzf", kArchive, "-C", project / "."}));
  for (const char* split : {"train", "val"}) pack_and_verify(project, split);

  const auto start = std::chrono::steady_clock::now();
  train_on_two_ranks(project);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;

  const std::vector<MetricsLine> train = project.metrics("run", "train"), eval = project.metrics("run", "eval");
  ASSERT_EQ(train.size(), 60u);
  const double first_loss = mean(train, 0, 3, "loss"), last_loss = mean(train, 57, 60, "loss");
  EXPECT_LT(last_loss, first_loss - 0.2);
  ASSERT_EQ(eval.size(), 3u);  // every 100 steps
  const double early = eval.front().number("top1"), late = eval.back().number("top1");
  EXPECT_GT(late, early);
  EXPECT_GT(late, 0.25);
  EXPECT_EQ(eval.back().number("count"), 10000);
  std::printf(
      "CIFAR-10, 300 steps of 64 on two ranks: loss %.3f to %.3f, top-1 %.2f%% after 100 steps, %.2f%% at the "
      "end; %.0f images/s, %.0f s\n",
      first_loss, last_loss, 100 * early, 100 * late, mean(train, 0, train.size(), "images_per_second"), wall.count());

  Strings predict{"predict", "--checkpoint", project / "run/checkpoints/best.h5"};
  for (const char* name : {"airplane", "frog", "truck"}) {
    const std::string folder = project / concat("cifar10/val/", name);
    predict.push_back(folder + "/" + entries_in(folder).front());
  }
  const std::string predictions = succeed(run_quadmamba(predict));
  for (auto image = predict.begin() + 3; image != predict.end(); ++image) {
    EXPECT_NE(predictions.find(*image + "\n"), std::string::npos) << predictions;
  }
  std::printf("%s", predictions.c_str());
}

}  // namespace
}  // namespace qm
