// CheckpointSaver: writes checkpoints while training goes on.
//
// save() copies the weights and the optimizer's state, which is all that training waits for, and leaves writing
// and pruning to a thread. There is one copy and one write at a time: where checkpoints come faster than the
// disk takes them, save() waits for the one before, and the log says how long.
#pragma once

#include <chrono>
#include <cstdint>
#include <future>
#include <string>

#include "autograd/optim/adamw.h"
#include "data/checkpoint.h"
#include "launch/run_folder.h"
#include "layers/parameters.h"

namespace qm {

/// Under which names a checkpoint is written.
struct SaveAs {
  bool step = false;  ///< step-<N>.h5, after which all but the newest `keep_last` of these go
  bool best = false;  ///< best.h5
};

/// Used by rank 0 alone, by one thread. A write that fails makes the next call throw what it ended with: IoError, or
/// Error naming a tensor that is not finite.
class CheckpointSaver {
 public:
  /// All of them must outlive it.
  CheckpointSaver(RunFolder& folder, std::int64_t keep_last, const ParameterStore& parameters, const AdamW& optimizer);
  /// Waits for the write under way; how that ends is lost.
  ~CheckpointSaver() = default;
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  /// Writes `contents`, to which the tensors as they are now are added.
  void save(Checkpoint contents, SaveAs names);
  /// Whether nothing is being written any more, after waiting for that so long at most.
  bool done_within(std::chrono::milliseconds patience);
  /// Reports a write that is done; never waits.
  void poll();
  /// Waits for the write under way and reports it. Afterwards all that was given to save() is on the disk.
  void finish();

 private:
  struct Report {
    std::string paths;
    std::uint64_t bytes = 0;
    double write_seconds = 0;
  };

  std::vector<NamedTensor> copy(const Tensor& flat, const Tensor& snapshot) const;
  Report write(const Checkpoint& checkpoint, SaveAs names) const;
  void report();

  RunFolder& folder_;
  std::int64_t keep_last_;
  const ParameterStore& parameters_;
  const AdamW& optimizer_;
  Tensor model_, ema_, exp_avg_, exp_avg_sq_;    ///< the copy, on the CPU: new memory would cost more than copying
  double waited_ = 0;                            ///< seconds, since the last save(), for the write it began
  double stall_seconds_ = 0, wait_seconds_ = 0;  ///< of the last save(): in all, and for the write before
  std::future<Report> writing_;                  ///< last: destroyed first
};

}  // namespace qm
