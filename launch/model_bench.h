// How fast a recipe's network trains and infers on this device, and where the time goes.
#pragma once

#include <cstdint>

#include "dist/communicator.h"
#include "recipes/recipe.h"

namespace qm {

struct ModelBenchOptions {
  Device device;
  std::int64_t steps = 20;  ///< timed, after warm-up
  bool json = false;        ///< one JSON object instead of tables
};

/// The trainer's own step (mix, forward, backward, clip, AdamW, EMA) on random images that lie on the device already,
/// eagerly and as a graph: images/s, milliseconds a step, peak memory, losses, and a table of time by operation.
void bench_training(const Recipe& recipe, const ModelBenchOptions& options, Communicator& communicator);

/// The same step's operations call by call: for each operation and shape the median time of a call.
void bench_operations(const Recipe& recipe, const ModelBenchOptions& options, Communicator& communicator);

/// The forward pass of evaluation on a batch of random images, likewise.
void bench_inference(const Recipe& recipe, const ModelBenchOptions& options);

}  // namespace qm
