// Fine-tuning: a run that starts from another's weights.
#include "launch/initial_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "data/pack.h"
#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {


/// A store with the given parameters, each of its own constant.
void fill(ParameterStore& store, const std::vector<std::pair<std::string, Shape>>& parameters, double first) {
  for (const auto& [name, shape] : parameters) store.add(name, shape, initial::constant(first++));
  store.allocate(DType::kFloat32, Device{}, 0);
}

Strings load(const std::vector<std::pair<std::string, Shape>>& parameters, const Strings& classes,
             const Checkpoint& checkpoint, ParameterStore& store) {
  const TemporaryFolder folder;
  write_checkpoint(folder / "a.h5", checkpoint);
  fill(store, parameters, 10);
  return load_initial_weights(folder / "a.h5", classes, store, store.values());
}

const std::vector<std::pair<std::string, Shape>> kTwoClasses = {
    {"body.weight", {2, 2}}, {"classifier.head.weight", {2, 3}}, {"classifier.head.bias", {2}}};

Checkpoint checkpoint_of_two_classes() {
  Checkpoint checkpoint{.model = {{"body.weight", Tensor::from(std::vector<float>{1, 2, 3, 4}, {2, 2})},
                                  {"classifier.head.weight", Tensor::from(std::vector<float>(6, 5), {2, 3})},
                                  {"classifier.head.bias", Tensor::from(std::vector<float>(2, 6), {2})}},
                        .ema = {},
                        .exp_avg = {},
                        .exp_avg_sq = {},
                        .state = {.step = 7},
                        .recipe = "",
                        .revision = "",
                        .class_names = {"ant", "bee"}};
  return checkpoint;
}

float first_of(const ParameterStore& store, const std::string& name) {
  return ParameterStore::view(*store.find(name), store.values()).to_vector<float>().at(0);
}

TEST(launch, initial_weights_take_all_that_fits) {
  ParameterStore store;
  const Strings report = load(kTwoClasses, {"ant", "bee"}, checkpoint_of_two_classes(), store);
  ASSERT_EQ(report.size(), 1u);
  EXPECT_NE(report[0].find("3 of 3 parameters, 12 numbers, model weights of step 7"), std::string::npos) << report[0];
  EXPECT_EQ(first_of(store, "body.weight"), 1);
  EXPECT_EQ(first_of(store, "classifier.head.bias"), 6);
}

TEST(launch, initial_weights_leave_the_head_of_other_classes) {
  ParameterStore renamed, three;
  Strings report = load(kTwoClasses, {"ant", "cat"}, checkpoint_of_two_classes(), renamed);
  EXPECT_EQ(report.at(1),
            "  initialised anew: classifier.head.weight: of other classes in the file, (2, 3) in the model");
  EXPECT_EQ(first_of(renamed, "classifier.head.weight"), 11);

  Checkpoint checkpoint = checkpoint_of_two_classes();
  checkpoint.ema = checkpoint.model;
  checkpoint.ema[0].tensor = Tensor::from(std::vector<float>{9, 2, 3, 4}, {2, 2});
  checkpoint.ema.push_back({"extra", Tensor::from(std::vector<float>{1}, {1})});
  report = load({{"body.weight", {2, 2}}, {"classifier.head.weight", {3, 3}}, {"classifier.head.bias", {3}}},
                {"ant", "bee", "cat"}, checkpoint, three);
  EXPECT_EQ(report,
            (Strings{report[0], "  initialised anew: classifier.head.weight: (2, 3) in the file, (3, 3) in the model",
                     "  initialised anew: classifier.head.bias: (2) in the file, (3) in the model",
                     "  not taken: extra: (1) only in the file"}));
  EXPECT_EQ(first_of(three, "body.weight"), 9);
  EXPECT_EQ(first_of(three, "classifier.head.weight"), 11);
}

TEST(launch, initial_weights_of_another_model_are_refused) {
  ParameterStore store;
  const std::string error = error_of<ConfigError>([&] {
    load({{"body.weight", {4}}, {"more", {1}}}, {"ant", "bee"}, checkpoint_of_two_classes(), store);
  });
  EXPECT_NE(
      error.find("do not fit this model: body.weight: (2, 2) in the file, (4) in the model; more: missing in the "
                 "file, (1) in the model"),
      std::string::npos)
      << error;
}

std::string text_of(const std::string& path) {
  const std::vector<std::uint8_t> bytes = bytes_of_file(path);
  return {bytes.begin(), bytes.end()};
}

TEST(launch, train_starts_from_another_runs_weights) {
  const SmallProject project;
  project.expect_train("first", {.settings = {"train.max_steps=5"}});
  Strings arguments = project.train_arguments("second", {.settings = {"train.max_steps=1"}});
  arguments.insert(arguments.end(), {"--init", project.checkpoint("first", 5)});
  const ProgramResult result = run_on_ranks(1, arguments);
  ASSERT_EQ(result.exit_code, 0) << result.describe();
  const std::vector<std::uint8_t> log = bytes_of_file(project / "second/log.txt");
  const std::string text(log.begin(), log.end());
  EXPECT_NE(text.find("initial weights from"), std::string::npos);
  EXPECT_EQ(text.find("anew"), std::string::npos);
  project.expect_train("third", {.settings = {"train.max_steps=1"}});
  EXPECT_NE(project.losses("second").at(0), project.losses("third").at(0));
}

/// The weights of a parameter, or of its average.
Tensor weights_of(const std::vector<NamedTensor>& tensors, const std::string& name) {
  const auto found = std::ranges::find(tensors, name, &NamedTensor::name);
  EXPECT_NE(found, tensors.end()) << name;
  return found == tensors.end() ? Tensor() : found->tensor;
}

// A job that is queued again has the command line that it began with.
TEST(launch, train_that_resumes_says_that_it_starts_from_no_other_weights) {
  const SmallProject project;
  project.expect_train("first", {.settings = {"train.max_steps=5"}});
  const std::string init = project.checkpoint("first", 5);
  const auto log_after = [&](const char* max_steps) {
    project.expect_train("second", {.resume = true, .settings = {max_steps}, .options = {"--init", init}});
    return text_of(project / "second/log.txt");
  };
  const std::string taken = concat("initial weights from ", init);
  const std::string kept = concat("--init ", init, ": not used, since the run goes on with the weights of ",
                                  project.checkpoint("second", 1));
  const std::string begun = log_after("train.max_steps=1");
  EXPECT_NE(begun.find(taken), std::string::npos) << begun;
  EXPECT_EQ(begun.find("not used"), std::string::npos) << begun;
  const std::string resumed = log_after("train.max_steps=2");
  EXPECT_NE(resumed.find(kept), std::string::npos) << resumed;
  EXPECT_EQ(resumed.find(taken), resumed.rfind(taken)) << resumed;
}

TEST(launch, train_starts_from_the_weights_of_a_run_with_other_classes) {
  const SmallProject project;
  project.expect_train("first", {.settings = {"train.max_steps=5"}});
  for (const char* split : {"train", "val"}) {  // of the ten classes, seven
    const std::string images = project / concat("images/", split);
    Strings classes = entries_in(images);
    std::erase_if(classes, [&](const std::string& name) { return !std::filesystem::is_directory(images + "/" + name); });
    ASSERT_EQ(classes.size(), 10u);
    for (std::size_t i = 7; i < classes.size(); ++i) std::filesystem::remove_all(images + "/" + classes[i]);
    pack({.input = images, .split = split, .output = project / "seven", .threads = 1});
  }
  // At a rate of zero the step leaves the weights as they were.
  const auto train = [&](const std::string& run, const Strings& more) {
    Strings arguments = project.train_arguments(
        run, {.settings = {"train.max_steps=1", "model.classes=7", "schedule.warmup_epochs=1"}, .options = more});
    *(std::ranges::find(arguments, "--data") + 1) = project / "seven";
    return run_on_ranks(1, arguments);
  };
  const ProgramResult tuned = train("tuned", {"--init", project.checkpoint("first", 5)});
  ASSERT_EQ(tuned.exit_code, 0) << tuned.describe();
  ASSERT_EQ(train("fresh", {}).exit_code, 0);

  const std::string text = text_of(project / "tuned/log.txt");
  const Checkpoint first = read_checkpoint(project.checkpoint("first", 5)),
                   second = read_checkpoint(project.checkpoint("tuned", 1)),
                   fresh = read_checkpoint(project.checkpoint("fresh", 1));
  EXPECT_EQ(second.class_names.size(), 7u);
  std::size_t heads = 0;
  for (const NamedTensor& now : second.model) {
    const std::vector<double> values = now.tensor.to_vector<double>();
    if (now.name.starts_with("classifier.head.")) {
      ++heads;
      EXPECT_EQ(values, weights_of(fresh.model, now.name).to_vector<double>()) << now.name;
      const std::string line = concat("  initialised anew: ", now.name, ": ",
                                      to_string(weights_of(first.model, now.name).shape()), " in the file, ",
                                      to_string(now.tensor.shape()), " in the model");
      EXPECT_NE(text.find(line), std::string::npos) << line << " is not in\n" << text;
    } else {
      EXPECT_EQ(values, weights_of(first.ema, now.name).to_vector<double>()) << now.name;
      EXPECT_EQ(text.find(now.name), std::string::npos) << now.name << " was taken; the list is of what was not";
    }
  }
  EXPECT_EQ(heads, 2u);
  EXPECT_NE(text.find(concat(second.model.size() - heads, " of ", second.model.size(), " parameters")), std::string::npos)
      << text;

  expect_refused(train("other", {"--init", project.checkpoint("first", 5), "--set=model.dim=16"}),
                 {project.checkpoint("first", 5) + ": its weights do not fit this model"});
  EXPECT_FALSE(std::filesystem::exists(project / "other"));
  expect_refused(train("other", {"--init", project / "nowhere.h5"}), {project / "nowhere.h5"});
  EXPECT_FALSE(std::filesystem::exists(project / "other"));
  std::filesystem::create_directory(project / "other");  // one that is there is used, and the file as well
  EXPECT_EQ(train("other", {"--init", project.checkpoint("first", 5)}).exit_code, 0);
  EXPECT_NE(text_of(project / "other/log.txt").find("initial weights from"), std::string::npos);
}

}  // namespace
}  // namespace qm
