// A run goes on elsewhere: on other numbers of ranks and portions as the same run, with another recipe only if asked.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "data/pack.h"
#include "tests/launch/small_project.h"

namespace qm {
namespace {

/// (step, position in the epoch's order) → sample id
using Samples = std::map<std::pair<std::int64_t, std::int64_t>, std::uint64_t>;

/// What all ranks logged, over all parts of the run; expects that no sample of a step was taken twice.
Samples samples_of(const SmallProject& project, const std::string& run) {
  Samples samples;
  for (int rank = 0; rank < 4; ++rank) {
    std::ifstream file(project / concat(run, "/samples-", rank, ".txt"));
    std::int64_t step, position;
    std::uint64_t id;
    while (file >> step >> position >> id) {
      EXPECT_TRUE(samples.try_emplace({step, position}, id).second) << "twice: step " << step << ", " << position;
    }
  }
  return samples;
}

TEST(faults, four_two_one_three_ranks_are_one_undisturbed_rank) {
  const SmallProject project;
  const Strings settings{"eval.every_epochs=0", "checkpoint.every_epochs=0"};
  project.expect_train("one", {.ranks = 1, .settings = settings, .options = {"--log-samples"}});
  struct Part {
    int ranks, end, micro_batch, threads;
  };
  for (const Part& part : {Part{4, 13, 2, 1}, Part{2, 26, 6, 3}, Part{1, 38, 0, 2}, Part{3, 50, 4, 1}}) {
    Strings own = settings;
    for (const auto& [key, value] : {std::pair("train.max_steps", part.end), std::pair("data.threads", part.threads),
                                     std::pair("train.micro_batch", part.micro_batch)}) {
      own.push_back(concat(key, "=", value));
    }
    const TrainCall call{.ranks = part.ranks, .resume = true, .settings = own, .options = {"--log-samples"}};
    project.expect_train("parts", call);
  }
  const std::vector<double> expected = project.losses("one"), losses = project.losses("parts");
  ASSERT_EQ(expected.size(), 50u);
  ASSERT_EQ(losses.size(), expected.size());
  for (std::size_t step = 0; step < losses.size(); ++step) EXPECT_NEAR(losses[step], expected[step], 1e-10) << step;
  const Samples samples = samples_of(project, "parts");
  EXPECT_EQ(samples.size(), 50u * 24u);
  EXPECT_EQ(samples, samples_of(project, "one"));
  std::map<std::int64_t, std::set<std::uint64_t>> epochs;
  for (const auto& [place, id] : samples) epochs[place.first / 5].insert(id);
  for (const auto& [epoch, ids] : epochs) EXPECT_EQ(ids.size(), 120u) << "twice or missing in epoch " << epoch;
}

TEST(faults, samples_logged_by_a_killed_run_are_logged_once) {
  const SmallProject project;
  const TrainCall call = to_the_end(2).with("--log-samples");
  project.expect_train("whole", call);
  const ProgramResult killed = project.train("run", call.with("--fault=kill@step:9,rank=1"));
  EXPECT_FALSE(killed.succeeded()) << killed.describe();
  std::ofstream(project / "run/samples-1.txt", std::ios::app) << "8 ";  // as a kill in the middle of a line leaves it
  project.expect_train("run", to_the_end(1).with("--log-samples"));
  const Samples samples = samples_of(project, "run");
  EXPECT_EQ(samples.size(), static_cast<std::size_t>(kLastStep) * 24u);
  EXPECT_EQ(samples, samples_of(project, "whole"));
}

TEST(faults, evaluation_of_a_split_that_no_number_of_ranks_divides) {
  const SmallProject project;  // 23 images
  project.expect_train("run", {.settings = {"train.max_steps=5"}});
  std::vector<std::string> results;
  for (const int ranks : {1, 2, 3}) {
    const ProgramResult result = run_on_ranks(
        ranks, {"eval", "--checkpoint", project.checkpoint("run", 5), "--data", project.data(), "--set=eval.batch=5"});
    ASSERT_TRUE(result.succeeded()) << result.describe();
    EXPECT_NE(result.out.find("(23 images)"), std::string::npos) << result.out;
    results.push_back(result.out);
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

TEST(faults, another_global_batch_is_refused_with_a_diff_unless_asked_for) {
  const SmallProject project;
  project.expect_train("run", {.settings = {"train.max_steps=8"}});
  TrainCall call{.ranks = 2,
                 .resume = true,
                 .settings = {"train.global_batch=12", "mix.group=4", "train.epochs=2"},
                 .options = {}};
  expect_refused(project.train("run", call),
                 {project.checkpoint("run", 8), "--allow-change", "train.global_batch: 24 in the checkpoint, 12 now",
                  "mix.group: 8 in the checkpoint, 4 now", "train.epochs: 10 in the checkpoint, 2 now"});
  call.options = {"--allow-change"};
  const ProgramResult result = project.train("run", call);
  ASSERT_TRUE(result.succeeded()) << result.describe();
  // 3 of 5 steps of epoch 1 are 72 of 120 samples, and 6 of 10 of the steps that an epoch now has.
  EXPECT_NE(result.out.find("of 12 instead of 24 or other data: step 8 becomes step 16"), std::string::npos)
      << result.describe();
  EXPECT_TRUE(std::filesystem::exists(project.checkpoint("run", 20)));
}

TEST(faults, a_run_whose_steps_became_fewer_goes_on_from_its_own_checkpoints) {
  const SmallProject project;
  const auto train = [&](int batch, int steps, const Strings& options) {
    const ProgramResult result = project.train(
        "run", {.resume = true,
                .settings = {concat("train.global_batch=", batch), "mix.group=4", concat("train.max_steps=", steps),
                             "checkpoint.every_epochs=0", "checkpoint.every_steps=2"},
                .options = options});
    EXPECT_TRUE(result.succeeded()) << result.describe();
    return result.out;
  };
  train(12, 8, {});
  const std::string before = project.checkpoint("run", 8);
  const std::string hash = project.hash(before);
  EXPECT_NE(train(24, 6, {"--allow-change"}).find("step 8 becomes step 4"), std::string::npos);
  EXPECT_NE(train(24, 7, {}).find("resuming from " + project.checkpoint("run", 6)), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(before));
  EXPECT_EQ(project.hash(std::filesystem::path(before).replace_filename("old-step-00000008.h5")), hash);
}

TEST(faults, an_average_may_begin_where_it_is_asked_for) {
  const SmallProject project;
  project.expect_train("run", {.settings = {"train.max_steps=5", "train.ema_decay=0"}});
  const TrainCall call{.resume = true, .settings = {"train.max_steps=8"}, .options = {"--allow-change"}};
  const ProgramResult result = project.train("run", call);
  ASSERT_TRUE(result.succeeded()) << result.describe();
  EXPECT_NE(result.out.find("train.ema_decay: 0"), std::string::npos) << result.describe();
  EXPECT_NE(result.out.find("evaluation at step 8, ema weights"), std::string::npos) << result.describe();
}

TEST(faults, other_data_is_refused_unless_asked_for) {
  const SmallProject project, other(144);
  project.expect_train("run", {.settings = {"train.max_steps=5"}});
  Strings arguments = project.train_arguments("run", {.resume = true, .settings = {"train.max_steps=8"}});
  *std::find(arguments.begin(), arguments.end(), project.data()) = other.data();
  expect_refused(run_quadmamba(arguments), {"training data: digest "});
  arguments.push_back("--allow-change");
  const ProgramResult result = run_quadmamba(arguments);
  EXPECT_TRUE(result.succeeded()) << result.describe();
}

TEST(faults, the_same_data_in_other_shards_is_refused_where_windows_are_shuffled) {
  const SmallProject project;
  const std::string others = project / "three";
  for (const char* split : {"train", "val"}) {
    pack({.input = project / concat("images/", split), .split = split, .output = others, .shards = 3, .threads = 1});
  }
  for (const bool window : {false, true}) {
    const std::string run = window ? "window" : "full", shuffle = concat("data.shuffle=\"", run, "\"");
    project.expect_train(run, {.settings = {"train.max_steps=3", shuffle, "data.shuffle_window=10"}});
    Strings arguments = project.train_arguments(
        run, {.resume = true, .settings = {"train.max_steps=6", shuffle, "data.shuffle_window=10"}});
    *std::find(arguments.begin(), arguments.end(), project.data()) = others;
    const ProgramResult result = run_quadmamba(arguments);
    if (window) {
      expect_refused(result, {"training data: digest "});
    } else {
      EXPECT_TRUE(result.succeeded()) << result.describe();
    }
  }
}

TEST(faults, another_model_is_refused_with_the_recipes_difference) {
  const SmallProject project;
  project.expect_train("run", {.settings = {"train.max_steps=5"}});
  const std::string file = project.checkpoint("run", 5);
  TrainCall call{.resume = true, .settings = {"model.dim=16", "model.depths=[1, 1, 2, 1]", "model.drop_path=0.1"}};
  for (const Strings& options : {Strings{}, Strings{"--allow-change"}}) {  // asked for, too: there are no weights for it
    call.options = options;
    expect_refused(project.train("run", call),
                   {file, "do not fit this model", "(8, 3, 3, 3) in the model", "model.dim: 8 in the checkpoint, 16 now",
                    "model.depths: [1, 1, 1, 1] in the checkpoint, [1, 1, 2, 1] now", "model.drop_path: 0.2"});
  }
}

TEST(faults, a_model_of_the_same_shapes_is_taken_where_it_is_asked_for) {
  const SmallProject project;
  project.expect_train("run", {.settings = {"train.max_steps=5"}});
  TrainCall call{.resume = true, .settings = {"train.max_steps=8", "model.fine_order=window_raster"}};
  expect_refused(project.train("run", call),
                 {"--allow-change", "model.fine_order: \"quadtree\" in the checkpoint, \"window_raster\" now"});
  call.options = {"--allow-change"};
  const ProgramResult result = project.train("run", call);
  EXPECT_TRUE(result.succeeded()) << result.describe();
  expect_said(result, "another run from here on; model.fine_order");
}

}  // namespace
}  // namespace qm
