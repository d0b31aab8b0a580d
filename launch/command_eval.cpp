// quadmamba eval: a checkpoint and shards → top-1, top-5, loss, count.
#include <cstdio>

#include "dist/environment.h"
#include "kernels/base/fault.h"
#include "launch/commands.h"
#include "launch/end_job.h"
#include "launch/evaluator.h"
#include "launch/model_file.h"
#include "launch/open_shards.h"

namespace qm {

int run_eval(std::span<const std::string> arguments, const Environment& environment) {
  CommandLine line("eval", "Measures a checkpoint on a split: top-1, top-5, loss and the number of images.");
  std::string file, data, split = "val", weights, device = "auto";
  std::string fault;
  std::int64_t deadline = kDefaultDeadline.count();
  std::vector<std::string> overrides;
  line.required_option("checkpoint", "FILE", file, "a checkpoint of quadmamba train");
  line.required_option("data", "DIR", data, "folder with the shards");
  line.option("split", "NAME", split, "which shards");
  line.choice("weights", {"ema", "model"}, weights, "which weights; by default ema where there is one");
  line.choice("device", {"auto", "cpu", "cuda"}, device, "where to compute");
  line.option("deadline", "SECONDS", deadline, {1, 1 << 20}, "longest wait for another rank, which is then given up");
  line.option("fault", "SPEC", fault, "a test aid: die, freeze or fail at a chosen point; see kernels/base/fault.h");
  line.assignments("set", overrides, "replace a key of the checkpoint's recipe, such as eval.batch=64");
  if (!line.parse(arguments)) return 0;
  if (!fault.empty()) arm_fault(fault, environment.rank());

  const ModelFile model = load_model_file(file, weights, device, environment, overrides);
  const auto communicator =
      environment.make_communicator(model.network->device(), std::chrono::seconds(deadline),
                                    [&](const std::string& what) { end_job(what, environment); });
  const ShardSet shards = open_shards(data, split, *communicator);
  QM_CHECK(model.checkpoint.class_names.empty() || model.checkpoint.class_names == shards.class_names(), ConfigError,
           data, ": its classes are not those the checkpoint was trained on");
  const EvalResult result = evaluate(*model.network, model.recipe, shards, *communicator);
  if (communicator->rank() == 0) std::printf("%s\n", result.text().c_str());
  return 0;
}

}  // namespace qm
