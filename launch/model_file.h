// A model read back from a checkpoint, for eval, predict and inspect.
#pragma once

#include <memory>
#include <string>

#include "data/checkpoint.h"
#include "launch/factory.h"

namespace qm {

struct ModelFile {
  Checkpoint checkpoint;
  Recipe recipe;                     ///< the checkpoint's, with overrides
  std::unique_ptr<Network> network;  ///< with the weights asked for
};

/// Which of a checkpoint's weights: "ema" or "model"; "" takes ema where there is one.
const std::vector<NamedTensor>& weights_of(const Checkpoint& checkpoint, const std::string& weights,
                                           const std::string& file);

/// Reads a checkpoint and builds its network on the device (choose_device). Collective. Throws IoError or ConfigError
/// naming the file.
ModelFile load_model_file(const std::string& file, const std::string& weights, const std::string& device,
                          const Environment& environment, const std::vector<std::string>& overrides = {});

}  // namespace qm
