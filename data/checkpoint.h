// Checkpoints: everything a run continues from, in one HDF5 file behind the guard of data/guarded_file.h.
//
//   attributes  format = "quadmamba-checkpoint", version
//   model/, ema/, optimizer/exp_avg/, optimizer/exp_avg_sq/   a dataset a parameter under its published name, in the
//               tensor's own type (float32; float64 in fp64 runs); ema/ is empty in runs without one
//   state       group whose attributes are the fields of TrainingState
//   recipe, revision, class_names   UTF-8 text
//
// With h5py:
//   file = h5py.File("step-00012345.h5")
//   weight = file["model/head.weight"][:]
//   step = file["state"].attrs["step"]
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace qm {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

struct TrainingState {
  std::int64_t step = 0;           ///< optimizer steps done
  std::int64_t epoch = 0;          ///< epochs done
  std::int64_t step_in_epoch = 0;  ///< steps done of the epoch under way
  std::uint64_t seed = 0;          ///< key of all random numbers
  double best_top1 = 0;            ///< best evaluation so far
  std::int64_t best_step = 0;      ///< and its step
  std::int64_t ema_updates = 0;
  std::int64_t evaluation_pending = 0;  ///< 1: a signal cut this step's evaluation short, a resumed run begins with it
  std::int64_t world_size = 0;  ///< ranks of the run that wrote it
  std::int64_t global_batch = 0;
  std::int64_t metrics_lines = 0;  ///< of metrics.jsonl at this step
  std::uint64_t data_digest = 0;   ///< of the training set, and what its order depends on
  std::uint64_t val_digest = 0;    ///< of what best_top1 was measured on; 0: of a time before this was kept

  friend bool operator==(const TrainingState&, const TrainingState&) = default;
};

struct Checkpoint {
  std::vector<NamedTensor> model, ema, exp_avg, exp_avg_sq;
  TrainingState state;
  std::string recipe;    ///< the resolved recipe, as TOML
  std::string revision;  ///< of the source that wrote it
  std::vector<std::string> class_names;
};

/// Writes a checkpoint: whole, on the disk under `path` and read back, or not at all: then an older one stays. Same
/// contents, same bytes, whatever the order of the tensors. Waits for the tensors' devices. Throws IoError naming the
/// file and the cause, ShapeError for a tensor that is neither float32 nor float64.
void write_checkpoint(const std::string& path, const Checkpoint& checkpoint);

/// Reads a checkpoint onto the CPU, each group sorted by name. The file is verified whole before any of it is
/// believed: IoError names the file and what is wrong with it, UnreadableFile why it cannot be read.
Checkpoint read_checkpoint(const std::string& path);

/// SHA-256, in hex, over names, types, shapes and bytes of the tensors sorted by name.
std::string weights_digest(const std::vector<NamedTensor>& tensors);

}  // namespace qm
