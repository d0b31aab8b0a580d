// The same run on any number of ranks, in any micro-batches, with any number of threads.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

constexpr std::size_t kSteps = 50;  // all of the recipe's
constexpr double kTolerance = 1e-10;

void expect_close(const std::vector<double>& losses, const std::vector<double>& reference, const std::string& what) {
  ASSERT_EQ(losses.size(), reference.size()) << what;
  for (std::size_t step = 0; step < losses.size(); ++step) {
    ASSERT_NEAR(losses[step], reference[step], kTolerance) << what << ", step " << step + 1;
  }
}

/// Only evaluation and checkpoints at the end, to save time.
TrainCall quick(int ranks, std::int64_t micro_batch) {
  return {.ranks = ranks,
          .settings = {"eval.every_epochs=0", "checkpoint.every_epochs=0", concat("train.micro_batch=", micro_batch)}};
}

TEST(launch, ranks_and_accumulation_give_the_same_losses) {
  const SmallProject project;
  project.expect_train("one", quick(1, 0));
  const std::vector<double> reference = project.losses("one");
  ASSERT_EQ(reference.size(), kSteps);
  EXPECT_GT(std::abs(reference.front() - reference.back()), 1e-3) << "nothing was learned, so nothing is shown";

  const std::vector<std::pair<int, std::int64_t>> ways{{1, 6}, {1, 2}, {2, 0}, {3, 0}, {2, 4}};
  for (const auto& [ranks, micro_batch] : ways) {
    const std::string name = concat(ranks, "-ranks-by-", micro_batch);
    project.expect_train(name, quick(ranks, micro_batch));
    expect_close(project.losses(name), reference, name);
  }
}

TEST(launch, resume_on_another_number_of_ranks_goes_on_with_the_same_losses) {
  const SmallProject project;
  project.expect_train("one", quick(1, 0));
  TrainCall first = quick(1, 0), second = quick(2, 6);
  first.settings.push_back("train.max_steps=22");
  second.resume = true;
  project.expect_train("changed", first);
  project.expect_train("changed", second);
  expect_close(project.losses("changed"), project.losses("one"), "resumed on two ranks");
}

TEST(launch, threads_of_the_loader_change_no_bit) {
  const SmallProject project;
  for (const char* threads : {"1", "3"}) {
    project.expect_train(concat("threads-", threads),
                         {.settings = {"precision=fp32", "train.max_steps=12", concat("data.threads=", threads)}});
  }
  EXPECT_EQ(project.course("threads-3"), project.course("threads-1"));
  EXPECT_EQ(project.hash(project.checkpoint("threads-3", 12)), project.hash(project.checkpoint("threads-1", 12)));
}

TEST(launch, same_run_twice_with_two_compute_threads_ends_the_same) {
  const SmallProject project;
  const TrainCall call{.settings = {"precision=fp32", "train.max_steps=12"}};
  RunOptions options;
  options.environment.push_back("OMP_NUM_THREADS=2");
  for (const char* run : {"first", "second"}) {
    const ProgramResult result = run_quadmamba(project.train_arguments(run, call), options);
    ASSERT_TRUE(result.succeeded()) << result.describe();
  }
  EXPECT_EQ(project.course("first"), project.course("second"));
  EXPECT_EQ(project.hash(project.checkpoint("first", 12)), project.hash(project.checkpoint("second", 12)));
}

void expect_repeatable(int ranks) {
  const SmallProject project;
  for (const char* run : {"first", "second"}) {
    project.expect_train(run, {.ranks = ranks, .settings = {"precision=fp32", "train.max_steps=12"}});
  }
  EXPECT_EQ(project.course("first"), project.course("second"));
  for (const char* file : {"step-00000010.h5", "step-00000012.h5", "best.h5"}) {
    const auto first = bytes_of_file(project / concat("first/checkpoints/", file));
    EXPECT_FALSE(first.empty()) << file;
    EXPECT_EQ(first, bytes_of_file(project / concat("second/checkpoints/", file))) << file;
  }
}

TEST(launch, same_run_twice_writes_the_same_bytes) {
  expect_repeatable(1);
}

TEST(launch, same_run_twice_on_two_ranks_writes_the_same_bytes) {
  expect_repeatable(2);
}

TEST(launch, refuses_ranks_with_different_recipes) {
  const SmallProject project;
  std::vector<std::string> arguments = project.train_arguments("run", {.settings = {"train.max_steps=2"}});
  const std::vector<std::string> other = project.train_arguments("run", {.settings = {"train.max_steps=3"}});
  for (const char* word : {":", "-np", "1", QM_PROGRAM}) arguments.push_back(word);  // mpirun's second program
  arguments.insert(arguments.end(), other.begin(), other.end());
  expect_refused(run_quadmamba_ranks(1, arguments), {"rank 1 has another recipe"});
  EXPECT_FALSE(std::filesystem::exists(project / "run"));
}

TEST(launch, another_seed_is_another_run) {
  const SmallProject project;
  for (const char* seed : {"5", "6"}) {
    project.expect_train(concat("seed-", seed), {.settings = {concat("seed=", seed), "train.max_steps=2"}});
  }
  EXPECT_NE(project.losses("seed-5"), project.losses("seed-6"));
}

}  // namespace
}  // namespace qm
