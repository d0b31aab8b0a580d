// Evaluation: top-1, top-5 and loss of a network over a split, every sample counted exactly once.
#pragma once

#include <string>

#include "data/shard.h"
#include "dist/communicator.h"
#include "launch/factory.h"

namespace qm {

struct EvalResult {
  double top1 = 0, top5 = 0;  ///< fractions
  double loss = 0;            ///< mean cross-entropy with the hard labels
  std::int64_t count = 0;     ///< samples

  /// "top-1 81.25%  top-5 97.50%  loss 0.812345  (80 images)"
  std::string text() const;
};

/// Collective. Runs the network's current weights over all samples of `shards`: each rank takes a contiguous part, in
/// batches padded to one size whose padding is not counted; the next comes to the device beside its work on this one. The
/// result is the same on every rank. Throws ConfigError if the split's classes are not the model's, and Stopped, on every
/// rank, if a signal has come to one.
EvalResult evaluate(const Network& network, const Recipe& recipe, const ShardSet& shards, Communicator& communicator);

}  // namespace qm
