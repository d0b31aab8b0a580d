// One rank's training step: what micro-batches, a step number and the weights turn into.
//
// put() brings the micro-batches of a step to the device, beside the step before, which is still being computed; run() queues the
// step: mix, forward, backward, sums over the ranks, optimizer. Nothing waits for the device. On a GPU the step is
// captured as a CUDA graph once it has run twice, and replayed from then on: all that varies from step to step lies in
// device memory.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "autograd/optim/adamw.h"
#include "autograd/tape.h"
#include "dist/communicator.h"
#include "dist/gradient_reducer.h"
#include "dist/sharding.h"
#include "kernels/base/graph.h"
#include "launch/batches_ahead.h"
#include "launch/factory.h"

namespace qm {

/// The recipe mixes neighbouring samples.
bool mixes(const Recipe& recipe);
/// This rank's micro-batches, as positions of the global batch.
std::vector<Share> micro_batches_of(const Recipe& recipe, const Communicator& communicator);

class TrainStep {
 public:
  /// `recipe`, `network` and `communicator` must outlive the step.
  TrainStep(const Recipe& recipe, Network& network, Communicator& communicator);

  /// The rank's next micro-batch of the step to come. All of a step's, in order, before its run().
  void put(Batch batch);
  /// Queues step number `step` of epoch `epoch`.
  void run(std::int64_t step, std::int64_t epoch, double learning_rate);

  /// For finding what was not finite: the same numbers once more, eagerly and on this rank alone, without touching weights.
  void begin_replay(std::int64_t step, std::int64_t epoch);
  void replay(const Batch& batch, std::size_t micro, const std::function<void(Tape&)>& watch);

  AdamW& optimizer() { return optimizer_; }
  const AdamW& optimizer() const { return optimizer_; }
  const std::vector<Share>& micro_batches() const { return micro_batches_; }
  /// (1), master dtype: the loss of the last step, over all ranks.
  const Tensor& loss() const { return loss_; }
  bool replays() const { return graph_ != nullptr; }
  /// Whether the device has done all that run() has queued.
  bool idle() const { return done_.reached(); }

 private:
  void connect_reducer();
  void write_record(std::int64_t step, std::int64_t epoch, double learning_rate);
  void queue();
  void forward_backward(const DeviceBatch& batch, std::size_t micro, const std::function<void(Tape&)>& watch = {});

  const Recipe& recipe_;
  Network& network_;
  Communicator& communicator_;
  AdamW optimizer_;
  std::unique_ptr<GradientReducer> reducer_;
  std::vector<Share> micro_batches_;
  BatchesAhead batches_;  // of micro-batches

  Tensor records_;  // StepRecord of each micro-batch, device memory
  Tensor groups_;   // MixGroup of each group of the global batch, device memory; undefined without mixing
  Tensor loss_;

  std::int64_t runs_ = 0;
  bool blurs_ = false;  // the recipe's pixel operations
  bool poisoned_ = false;  // the fault "loss": this step's loss is made a NaN
  std::unique_ptr<Graph> graph_;
  Event done_;  // of the newest step
};

}  // namespace qm
