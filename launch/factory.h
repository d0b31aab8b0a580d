// From a recipe to the configurations of the other folders: the one place that knows both sides.
#pragma once

#include <memory>
#include <string>

#include "autograd/ops/image_mix.h"
#include "autograd/optim/adamw.h"
#include "data/loader.h"
#include "data/mix.h"
#include "layers/quadmamba.h"
#include "recipes/recipe.h"

namespace qm {

QuadMambaConfig model_config(const Recipe& recipe);
AdamWConfig optimizer_config(const Recipe& recipe);
MixConfig mix_config(const Recipe& recipe);
/// Consecutive positions that share one draw of mixup and cutmix, as mix.mode says.
std::int64_t mix_group(const Recipe& recipe);
LoaderConfig loader_config(const Recipe& recipe);
ImageNormalization normalization(const Recipe& recipe);

/// float64 for fp64, else float32.
DType master_dtype(const Recipe& recipe);

/// "auto", "cpu" or "cuda" → a device that this build has and that the recipe's precision and a job of `ranks` processes
/// run on: the GPU takes fp32 and, until ranks can exchange gradients between GPUs, one process. Throws ConfigError.
Device choose_device(const std::string& name, Precision precision, int ranks = 1);

/// A network with its parameters, allocated and initialised from the recipe's seed.
struct Network {
  ParameterStore parameters;
  std::unique_ptr<QuadMamba> model;

  Network(const Recipe& recipe, Device device);
  Device device() const { return parameters.values().device(); }
};

}  // namespace qm
