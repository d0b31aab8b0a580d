// A step that is not finite is named down to tensor and samples, and ends the run or is left out.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>

#include "data/checkpoint.h"
#include "data/image.h"
#include "data/pack.h"
#include "data/sampler.h"
#include "data/shard.h"
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
  const std::string predictor = "layers.0.blocks.0.op.score_predictor.";
  expect_refused(result, {"is not finite at step 2: rank 0: layer " + predictor + "in_conv.1 to " + predictor +
                              "out_conv.4: output 0 of mlp is not finite: ",
                          " in 512 of 512 numbers; samples "});  // infinity or NaN, as the CPU adds
  // Exactly those that were logged as the first four of step 1, counted from 0.
  std::string ids, line;
  std::ifstream samples(project / "run/samples-0.txt");
  while (std::getline(samples, line)) {
    if (line.starts_with("1 2") && line[3] < '8') ids += (ids.empty() ? "" : ", ") + line.substr(line.rfind(' ') + 1);
  }
  EXPECT_TRUE(contains(result.error, "samples " + ids + ";")) << ids << "\n" << result.describe();
}

/// Black images but for a white one: black is 0, and goes unharmed through a first convolution with weights that are far
/// too large, so that what is wrong with a step is wrong with that sample alone.
constexpr const char* kOneBadSample = R"(
precision = "fp32"

[model]
dim = 8
depths = [1, 1, 1, 1]
classes = 2
image_size = 32

[data]
mean = [0.0, 0.0, 0.0]
std = [0.001, 0.001, 0.001]
threads = 1

[train]
global_batch = 24
epochs = 1
log_every = 1

[optimizer]
learning_rate = 1e-3

[eval]
every_epochs = 0
)";

/// 96 training images of classes black and white, one of them white.
void write_one_bad_sample(const TemporaryFolder& folder) {
  for (const auto& [split, black] : {std::pair("train", 95), std::pair("val", 1)}) {
    for (int i = 0; i <= black; ++i) {
      const bool white = i == black;
      const std::string place = folder / concat("images/", split, white ? "/white" : "/black");
      std::filesystem::create_directories(place);
      const Image image{32, 32, std::vector<std::uint8_t>(32 * 32 * 3, white ? 255 : 0)};
      write_bytes(concat(place, "/", i, ".png"), encode_png(image));
    }
    pack({.input = folder / concat("images/", split), .split = split, .output = folder / "shards", .shards = 1});
  }
  std::ofstream(folder / "bad.toml") << kOneBadSample;
}

/// The weights after a step from `folder`'s recipe, those of the first convolution 1e37 times as large.
std::string write_far_too_large_weights(const TemporaryFolder& folder, const std::string& seed) {
  const ProgramResult result = run_on_ranks(1, {"train", folder / "bad.toml", "--data", folder / "shards", "--run",
                                                folder / "first", seed, "--set=train.max_steps=1"});
  EXPECT_TRUE(result.succeeded()) << result.describe();
  Checkpoint checkpoint = read_checkpoint(folder / "first/checkpoints/step-00000001.h5");
  for (NamedTensor& named : checkpoint.model) {
    if (named.name != "patch_embed.0.weight") continue;
    for (std::int64_t i = 0; i < named.tensor.count(); ++i) named.tensor.data<float>()[i] *= 1e37f;
  }
  const std::string file = folder / "large.h5";
  write_checkpoint(file, checkpoint);
  return file;
}

/// Places in the order of seed `seed`'s first epoch: which the white sample has.
std::int64_t place_of_white(const ShardSet& shards, std::uint64_t seed) {
  const std::vector<std::uint32_t> order = epoch_order(seed, 0, shards.size());
  const auto white = std::ranges::find_if(order, [&](std::uint32_t index) { return shards.label(index) == 1; });
  return white - order.begin();
}

TEST(faults, a_step_that_is_not_finite_on_another_rank_is_named) {
  const TemporaryFolder folder;
  write_one_bad_sample(folder);
  const ShardSet shards(folder / "shards", "train");
  // A seed whose order brings it to rank 1 of two, which has the later 12 of a step's 24, and not in the first step.
  std::uint64_t seed = 0;
  while (place_of_white(shards, seed) < 24 || place_of_white(shards, seed) % 24 < 12) ++seed;
  const std::int64_t place = place_of_white(shards, seed), step = place / 24;

  const std::string seeded = concat("--set=seed=", seed);
  const ProgramResult result =
      run_on_ranks(2, {"train", folder / "bad.toml", "--data", folder / "shards", "--run", folder / "run", "--init",
                       write_far_too_large_weights(folder, seeded), "--log-samples", seeded,
                       "--set=train.micro_batch=6"});
  // The portion of 6 that it is in, as rank 1 logged it: lines "step position id".
  const std::int64_t portion = place / 6 * 6;
  std::string ids;
  std::int64_t logged_step, position;
  std::uint64_t id;
  std::ifstream samples(folder / "run/samples-1.txt");
  while (samples >> logged_step >> position >> id) {
    if (position >= portion && position < portion + 6) ids += (ids.empty() ? "" : ", ") + std::to_string(id);
  }
  expect_refused(result, {concat("is not finite at step ", step + 1, ": rank 1: layer "),
                          "output 0 of conv2d is not finite", " numbers; samples " + ids + ";"});
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
