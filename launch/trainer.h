// Trainer: a recipe's whole run, on every rank of the job.
//
// A step works through the rank's micro-batches (mix, forward, backward), sums gradients and loss over the ranks, and
// updates all weights. Nothing in it waits for the device; the host reads results only when a log line, an evaluation or
// a checkpoint is due.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "autograd/optim/adamw.h"
#include "data/shard.h"
#include "dist/communicator.h"
#include "dist/gradient_reducer.h"
#include "dist/sharding.h"
#include "launch/evaluator.h"
#include "launch/factory.h"
#include "launch/resume.h"
#include "launch/run_folder.h"
#include "launch/schedule.h"

namespace qm {

struct TrainOptions {
  std::string run_folder;
  bool resume = false;
  Device device;
  std::string init{};  ///< checkpoint whose weights a new run starts from; "" = the recipe's seed
};

class Trainer {
 public:
  /// Opens the data (recipe.data.path: splits "train" and "val"), builds the model and, when resuming, loads the newest
  /// good checkpoint. Throws before anything is written if recipe, data, ranks and run folder do not fit together.
  Trainer(const Recipe& recipe, const TrainOptions& options, Communicator& communicator);

  /// Trains to the recipe's end. Throws qm::Error if the loss or a gradient stops being finite.
  void run();

 private:
  using Clock = std::chrono::steady_clock;

  void open_run_folder(const TrainOptions& options);
  void start_from(const std::string& checkpoint);
  void resume_from_newest();
  void share_state_with_ranks();
  void connect_reducer();
  std::unique_ptr<Loader> make_loader() const;

  void train_step();
  void write_step_inputs();
  void forward_backward(const Batch& batch, std::size_t micro);
  void check_finite() const;

  bool is_main() const { return communicator_.rank() == 0; }
  bool finished_epoch() const { return state_.step_in_epoch == 0 && state_.step > 0; }
  bool finished_run() const { return state_.step >= end_step_; }
  bool evaluation_due() const;
  bool checkpoint_due() const;

  void log_start();
  void log_step();
  void run_evaluation();
  EvalResult log_evaluation(const std::string& weights);
  void save_checkpoints();
  Checkpoint make_checkpoint() const;

  Recipe recipe_;
  Communicator& communicator_;
  ShardSet train_shards_, val_shards_;
  Network network_;
  AdamW optimizer_;
  std::unique_ptr<GradientReducer> reducer_;
  std::unique_ptr<RunFolder> folder_;  // rank 0 only

  std::vector<Share> micro_batches_;  // of this rank, as positions of the global batch
  std::int64_t steps_per_epoch_ = 0;
  std::int64_t end_step_ = 0;
  Schedule schedule_;
  TrainingState state_;
  bool new_best_ = false;  // whether this step's evaluation was the best so far

  std::unique_ptr<Loader> loader_;
  Tensor records_;  // StepRecord of each micro-batch, device memory
  Tensor groups_;   // MixGroup of each group of the global batch, device memory; undefined without mixing
  Tensor loss_;     // (1), of the step

  Clock::time_point interval_start_;
  double interval_wait_ = 0;
  std::int64_t interval_first_step_ = 0;
};

}  // namespace qm
