// A step that is not finite is named down to tensor and samples, and ends the run or is left out.
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "launch/finite_check.h"
#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {


bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Weights of 1e12 after the first step, whose products no float32 can hold in the second.
const Strings kExploding{"precision=fp32", "optimizer.learning_rate=1e12", "schedule.warmup_epochs=0"};

TEST(launch, not_finite_text_counts) {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(not_finite_text(Tensor::from<double>({1, 2, 3}, {3})), "");
  EXPECT_EQ(not_finite_text(Tensor()), "");
  EXPECT_EQ(not_finite_text(Tensor::from<std::int32_t>({1}, {1})), "");
  EXPECT_EQ(not_finite_text(Tensor::from<double>({1, -infinity}, {2})), " is not finite: infinity in 1 of 2 numbers");
  EXPECT_EQ(not_finite_text(Tensor::from<double>({nan, infinity, 0}, {3})), " is not finite: NaN in 2 of 3 numbers");
}

TEST(faults, a_step_that_is_not_finite_is_named) {
  const SmallProject project;
  Strings settings = kExploding;
  settings.push_back("train.micro_batch=4");
  const ProgramResult result = project.train("run", {.settings = settings, .options = {"--log-samples"}});
  expect_refused(result, {"is not finite at step 2: rank 0: layer layers.0.blocks.0.op.score_predictor.", "of linear",
                          " in 1024 of 1024 numbers; samples "});  // infinity or NaN, as the CPU adds
  // Exactly those that were logged as the first four of step 1, counted from 0.
  std::string ids, line;
  std::ifstream samples(project / "run/samples-0.txt");
  while (std::getline(samples, line)) {
    if (line.starts_with("1 2") && line[3] < '8') ids += (ids.empty() ? "" : ", ") + line.substr(line.rfind(' ') + 1);
  }
  EXPECT_TRUE(contains(result.error, "samples " + ids + ";")) << ids << "\n" << result.describe();
}

TEST(faults, a_step_that_is_not_finite_is_skipped_where_the_recipe_says_so) {
  const SmallProject project;
  const auto train = [&](const std::string& run, const std::string& end, const Strings& options) {
    const ProgramResult result = project.train(run, {.ranks = 2,
                                                     .resume = true,
                                                     .settings = {"train.not_finite=skip", "train.max_steps=" + end},
                                                     .options = options});
    EXPECT_TRUE(result.succeeded()) << result.describe();
    return result;
  };
  EXPECT_TRUE(contains(train("whole", "9", {"--fault=fail@loss:3"}).out, "skipped step 3, whose loss"));
  train("parts", "5", {"--fault=fail@loss:3"});
  train("parts", "9", {});
  EXPECT_EQ(project.hash(project.checkpoint("parts", 9)), project.hash(project.checkpoint("whole", 9)));
  EXPECT_EQ(project.record("parts"), project.record("whole"));
  train("undisturbed", "9", {});
  EXPECT_NE(project.hash(project.checkpoint("undisturbed", 9)), project.hash(project.checkpoint("whole", 9)));
}

TEST(faults, a_run_that_skips_every_step_ends) {
  const SmallProject project;
  Strings settings = kExploding;
  settings.push_back("train.not_finite=skip");
  expect_refused(project.train("run", {.settings = settings}), {"not finite at step 21, as in the 19 steps before"});
}

}  // namespace
}  // namespace qm
