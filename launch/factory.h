// From a recipe to the configurations of the other folders: the one place that knows both sides.
#pragma once

#include <memory>
#include <string>

#include "autograd/ops/image_mix.h"
#include "autograd/optim/adamw.h"
#include "data/loader.h"
#include "data/mix.h"
#include "dist/environment.h"
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
/// bfloat16 for bf16, else master_dtype.
DType activation_dtype(const Recipe& recipe);

/// "auto", "cpu" or "cuda" → the device that this rank computes on: of one type on all ranks, GPU `local_rank` of its
/// host or the CPU. "auto" takes GPUs where this build, the precision and every rank of the job can use one: GPUs take
/// fp32, and one rank each. Throws ConfigError.
Device choose_device(const std::string& name, Precision precision, const GpuSupply& supply, int local_rank);
/// The same for the job's own GPUs. Collective.
Device choose_device(const std::string& name, Precision precision, const Environment& environment);

/// A network with its parameters, allocated and initialised from the recipe's seed.
struct Network {
  ParameterStore parameters;
  std::unique_ptr<QuadMamba> model;

  Network(const Recipe& recipe, Device device);
  Device device() const { return parameters.values().device(); }
};

}  // namespace qm
