// Finding the checkpoint to continue from, and making sure that it is this run's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "data/checkpoint.h"
#include "launch/run_folder.h"
#include "recipes/recipe.h"

namespace qm {

struct FoundCheckpoint {
  std::string path;
  Checkpoint checkpoint;
  std::int64_t newest_step = 0;    ///< of the newest good step-*.h5: lower than the checkpoint's if that is best.h5
  std::optional<Checkpoint> best;  ///< best.h5 without its tensors, where it is good
};

/// The newest checkpoint of the folder that reads back whole, best.h5 among them: an evaluation may have saved it since
/// the last step-*.h5, and where none of these is good a run must not start anew and overwrite it. Each that is
/// damaged, or a link to nothing, is named in the log with the reason. Nothing if the folder has none at all. Throws
/// IoError if it has some and none is good, and UnreadableFile for one that cannot be read, since nobody knows that it
/// is damaged: to go on from an older one would lose steps for want of a permission.
std::optional<FoundCheckpoint> newest_good_checkpoint(RunFolder& folder);

/// The training and the validation set, as numbers.
struct DataDigests {
  std::uint64_t train = 0, val = 0;
};

/// What differs between the checkpoint's run and this one that would change the run's results, as "; key: 1 in the
/// checkpoint, 2 now; …": model, precision, seed, data, augmentation, batch, optimizer, schedule, and what evaluations
/// measure. Threads, micro-batches, ranks, logging, when to evaluate and to save, and max_steps may differ.
std::string differences_of_runs(const FoundCheckpoint& found, const Recipe& recipe, const DataDigests& digests);

/// Whether a run like this one measured the checkpoint's best_top1, so that its own may be compared with it: the same
/// validation set, brought to the network's input in the same way.
bool is_measured_alike(const Checkpoint& checkpoint, const Recipe& recipe, std::uint64_t val_digest);

}  // namespace qm
