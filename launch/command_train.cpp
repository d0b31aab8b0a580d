// quadmamba train: a recipe and shards → checkpoints.
#include <cstdio>
#include <tuple>
#include <utility>

#include "dist/environment.h"
#include "kernels/base/fault.h"
#include "launch/commands.h"
#include "launch/end_job.h"
#include "launch/trainer.h"

namespace qm {
namespace {

/// "A:B", two steps counted from 1.
std::pair<std::int64_t, std::int64_t> steps_of(const std::string& text) {
  long long first = 0, last = 0;
  int used = 0;
  const bool read = std::sscanf(text.c_str(), "%lld:%lld%n", &first, &last, &used) == 2;
  QM_CHECK(read && used == static_cast<int>(text.size()) && first >= 1 && last >= first, UsageError,
           "train: --profile-steps: expected A:B, two steps counted from 1, got '", text, "'");
  return {first, last};
}

}  // namespace

int run_train(std::span<const std::string> arguments, const Environment& environment) {
  CommandLine line("train",
                   "Trains a model as a recipe says. Under mpirun every process works on its part of each batch.\n"
                   "The run folder keeps the resolved recipe, log.txt, metrics.jsonl and checkpoints/.");
  std::string recipe_file, data, run, init, device = "auto";
  std::string fault, profile_steps;
  std::int64_t deadline = kDefaultDeadline.count();
  bool resume = false, allow_change = false, log_samples = false;
  std::vector<std::string> overrides;
  line.positional("RECIPE", recipe_file, "a TOML file; see recipes/");
  line.option("data", "DIR", data, "folder with the shards of the splits train and val");
  line.option("run", "DIR", run, "run folder; by default runs/ and the recipe's name");
  line.flag("resume", resume, "go on from the run folder's newest good checkpoint");
  line.flag("allow-change", allow_change, "resume with another recipe or other data; the log says what differs");
  line.flag("log-samples", log_samples, "write which samples each step took to samples-<rank>.txt");
  line.option("init", "FILE", init,
              "checkpoint whose weights a run starts from unless it resumes; the head anew where the classes are others");
  line.option("profile-steps", "A:B", profile_steps,
              "record these steps alone, under nsys profile --capture-range=cudaProfilerApi; with train.graph=false they\n"
              "show a range an operation");
  line.choice("device", {"auto", "cpu", "cuda"}, device, "where to compute");
  line.option("deadline", "SECONDS", deadline, {1, 1 << 20}, "longest wait for another rank, which is then given up");
  line.option("fault", "SPEC", fault, "a test aid: die, freeze or fail at a chosen point; see kernels/base/fault.h");
  line.assignments("set", overrides, "replace a key of the recipe, such as train.epochs=10");
  if (!line.parse(arguments)) return 0;
  if (!fault.empty()) arm_fault(fault, environment.rank());

  Recipe recipe = Recipe::load(recipe_file, overrides);
  if (!data.empty()) recipe.data.path = data;
  QM_CHECK(!recipe.data.path.empty(), ConfigError, recipe_file, ": no data: give --data DIR or the key data.path");
  TrainOptions options{.run_folder = run.empty() ? "runs/" + recipe.name : run,
                             .resume = resume,
                             .log_samples = log_samples,
                             .allow_change = allow_change,
                             .device = choose_device(device, recipe.precision, environment),
                             .init = init};
  if (!profile_steps.empty()) {
    std::tie(options.profile_first, options.profile_last) = steps_of(profile_steps);
    QM_CHECK(options.device.type == DeviceType::kCuda, UsageError, "train: --profile-steps needs a GPU, and this run computes on ",
             options.device.name());
  }
  const auto communicator =
      environment.make_communicator(options.device, std::chrono::seconds(deadline),
                                    [&](const std::string& what) { end_job(what, environment); });
  Trainer(recipe, options, *communicator).run();
  return 0;
}

}  // namespace qm
