// Finding the checkpoint to continue from, and making sure that it is this run's.
#pragma once

#include <optional>

#include "data/checkpoint.h"
#include "launch/run_folder.h"
#include "recipes/recipe.h"

namespace qm {

struct FoundCheckpoint {
  std::string path;
  Checkpoint checkpoint;
};

/// The newest checkpoint of the folder that reads back whole; each newer one that does not is named in the log with the
/// reason. best.h5, a whole checkpoint too, is taken where no step-*.h5 is good: a run that was killed before its first,
/// or whose disk was full, must not start anew and overwrite it. Nothing if the folder has none at all. Throws IoError if
/// it has some and none is good.
std::optional<FoundCheckpoint> newest_good_checkpoint(RunFolder& folder);

/// What differs between the checkpoint's run and this one that would change the run's results, as "; key: 1 in the
/// checkpoint, 2 now; …": model, precision, seed, data, augmentation, batch, optimizer, schedule. Threads,
/// micro-batches, ranks, logging, evaluation and checkpoint intervals and max_steps may differ.
std::string differences_of_runs(const FoundCheckpoint& found, const Recipe& recipe, std::uint64_t data_digest);

}  // namespace qm
