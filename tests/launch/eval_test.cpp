// eval and predict say of a checkpoint what the trainer said of its weights.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {


constexpr long kImages = 23;  // which neither the batches of 5 nor 2 or 3 ranks divide

struct Figures {
  double top1 = -1, top5 = -1, loss = -1;
  long count = -1;
};

/// From the line that eval prints, alone on stdout.
Figures figures_of(const ProgramResult& result) {
  Figures figures;
  EXPECT_TRUE(result.succeeded()) << result.describe();
  EXPECT_EQ(std::sscanf(result.out.c_str(), "top-1 %lf%%  top-5 %lf%%  loss %lf  (%ld images)\n", &figures.top1,
                        &figures.top5, &figures.loss, &figures.count),
            4)
      << result.describe();
  EXPECT_EQ(result.out.find('\n'), result.out.size() - 1) << result.describe();
  return figures;
}

/// The trainer's line on these weights at the end of the run.
MetricsLine trainer_line(const SmallProject& project, const std::string& weights) {
  MetricsLine last("");
  for (const MetricsLine& line : project.metrics("run", "eval")) {
    if (line.value("weights") == weights) last = line;
  }
  return last;
}

class EvaluatedRun {
 public:
  EvaluatedRun() {
    project_.expect_train(
        "run", {.settings = {"precision=fp32", "train.max_steps=10", "eval.batch=5", "optimizer.learning_rate=5e-3"}});
  }

  const SmallProject& project() const { return project_; }
  std::string checkpoint() const { return project_.checkpoint("run", 10); }
  Figures eval(int ranks, const std::string& weights, const Strings& more = {}) const {
    Strings arguments{"eval", "--checkpoint", checkpoint(), "--data", project_.data(), "--weights", weights};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return figures_of(run_on_ranks(ranks, arguments));
  }

 private:
  SmallProject project_{120, kImages};
};

void expect_trainer_figures(const Figures& figures, const MetricsLine& trainer, const std::string& what) {
  EXPECT_EQ(figures.count, kImages) << what;
  EXPECT_EQ(trainer.number("count"), kImages) << what;
  EXPECT_NEAR(figures.top1, 100 * trainer.number("top1"), 0.005 + 1e-9) << what;  // printed with two digits
  EXPECT_NEAR(figures.top5, 100 * trainer.number("top5"), 0.005 + 1e-9) << what;
  EXPECT_NEAR(figures.loss, trainer.number("loss"), 1e-6 * trainer.number("loss")) << what;
}

TEST(launch, eval_repeats_the_trainers_figures_on_any_number_of_ranks) {
  const EvaluatedRun run;
  const MetricsLine model = trainer_line(run.project(), "model"), ema = trainer_line(run.project(), "ema");
  EXPECT_GT(std::abs(model.number("loss") - ema.number("loss")), 1e-4) << "the two cannot be told apart";
  for (const int ranks : {1, 2, 3}) {
    expect_trainer_figures(run.eval(ranks, "model"), model, concat(ranks, " ranks, model"));
    expect_trainer_figures(run.eval(ranks, "ema"), ema, concat(ranks, " ranks, ema"));
  }
  expect_trainer_figures(run.eval(1, "model", {"--set", "eval.batch=1"}), model, "batches of one");
  expect_trainer_figures(run.eval(2, "model", {"--set", "eval.batch=100"}), model, "one batch, larger than the split");
}

TEST(launch, eval_of_fewer_images_than_ranks) {
  const SmallProject project(24, 2);
  project.expect_train("run", {.settings = {"train.max_steps=1"}});
  const Strings arguments{"eval", "--checkpoint", project.checkpoint("run", 1), "--data", project.data()};
  const Figures one = figures_of(run_on_ranks(1, arguments)), three = figures_of(run_on_ranks(3, arguments));
  EXPECT_EQ(three.count, 2);
  EXPECT_EQ(three.top1, one.top1);
  EXPECT_NEAR(three.loss, one.loss, 1e-6 * one.loss);
}

TEST(launch, eval_takes_ema_where_there_is_one_and_other_splits) {
  const EvaluatedRun run;
  const Strings arguments{"eval", "--checkpoint", run.checkpoint(), "--data", run.project().data()};
  EXPECT_EQ(figures_of(run_on_ranks(1, arguments)).loss, run.eval(1, "ema").loss);
  EXPECT_EQ(run.eval(1, "ema", {"--split", "train"}).count, 120);
}

/// The class on the first line below an image's name, with the probability before it.
std::pair<double, std::string> likeliest(const std::string& out, const std::string& image) {
  const std::size_t start = out.find(image + "\n");
  EXPECT_NE(start, std::string::npos) << image << " is not in\n" << out;
  if (start == std::string::npos) return {};
  std::istringstream line(out.substr(start + image.size() + 1));
  double percent = 0;
  char sign = 0;
  std::string name;
  line >> percent >> sign >> name;
  EXPECT_EQ(sign, '%') << out;
  return {percent, name};
}

TEST(launch, predict_agrees_with_eval) {
  const EvaluatedRun run;
  Strings images;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run.project() / "images/val")) {
    if (entry.path().extension() == ".jpg") images.push_back(entry.path());
  }
  ASSERT_EQ(images.size(), static_cast<std::size_t>(kImages));
  Strings arguments{"predict", "--checkpoint", run.checkpoint(), "--weights", "model"};
  arguments.insert(arguments.end(), images.begin(), images.end());
  const ProgramResult result = run_on_ranks(1, arguments);
  ASSERT_TRUE(result.succeeded()) << result.describe();

  double right = 0;
  for (const std::string& image : images) {
    const auto [percent, name] = likeliest(result.out, image);
    EXPECT_GE(percent, 10.0) << "the likeliest of 10 classes in " << result.out;
    EXPECT_LE(percent, 100.0);
    right += name == std::filesystem::path(image).parent_path().filename();
  }
  EXPECT_NEAR(100 * right / kImages, run.eval(1, "model").top1, 0.005 + 1e-9);
}

TEST(launch, inspect_tells_what_a_checkpoint_and_a_shard_hold) {
  const EvaluatedRun run;
  const ProgramResult checkpoint = run_quadmamba({"inspect", run.checkpoint()});
  EXPECT_TRUE(checkpoint.succeeded()) << checkpoint.describe();
  for (const char* part : {"step           10 (epoch 2, step 0 of it), written by 1 ranks", "EMA of 10 updates", "fp32",
                           "dim 8, depths 1,1,1,1, 10 classes, 32x32", "global batch 24"}) {
    EXPECT_NE(checkpoint.out.find(part), std::string::npos) << part << " is not in\n" << checkpoint.describe();
  }
  const ProgramResult shard = run_quadmamba({"inspect", run.project().data() + "/val-00000-of-00002.h5"});
  EXPECT_TRUE(shard.succeeded()) << shard.describe();
  for (const char* part : {"split val, every byte verified", "JPEG", "classes        10", "rings"}) {
    EXPECT_NE(shard.out.find(part), std::string::npos) << part << " is not in\n" << shard.describe();
  }
  const ProgramResult recipe = run_quadmamba({"inspect", run.project() / "run/recipe.toml", "--recipe"});
  EXPECT_TRUE(recipe.succeeded()) << recipe.describe();
  EXPECT_EQ(recipe.out, run_quadmamba({"inspect", "--recipe", run.checkpoint()}).out);
}

}  // namespace
}  // namespace qm
