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
LoaderConfig loader_config(const Recipe& recipe);
ImageNormalization normalization(const Recipe& recipe);

/// float64 for fp64, else float32.
DType master_dtype(const Recipe& recipe);

/// "auto", "cpu" or "cuda" → a device that this build has and the recipe's precision runs on. Throws ConfigError.
Device choose_device(const std::string& name, Precision precision);

/// A network with its parameters, allocated and initialised from the recipe's seed.
struct Network {
  ParameterStore parameters;
  std::unique_ptr<QuadMamba> model;

  Network(const Recipe& recipe, Device device);
  Device device() const { return parameters.values().device(); }
};

}  // namespace qm
