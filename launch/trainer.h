// Trainer: a recipe's whole run, on every rank of the job.
//
// A step works through the rank's micro-batches (mix, forward, backward), sums gradients and loss over the ranks, and
// updates all weights. Nothing in it waits for the device; the host reads results only when a log line, an evaluation or
// a checkpoint is due.
#pragma once

#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/shard.h"
#include "dist/communicator.h"
#include "launch/checkpoint_saver.h"
#include "launch/evaluator.h"
#include "launch/factory.h"
#include "launch/resume.h"
#include "launch/run_folder.h"
#include "launch/schedule.h"
#include "launch/train_log.h"
#include "launch/train_step.h"

namespace qm {

struct TrainOptions {
  std::string run_folder;
  bool resume = false;
  bool log_samples = false;   ///< write samples-<rank>.txt, a line "step position id" a sample, to the run folder
  bool allow_change = false;  ///< resume although recipe or data differ from the checkpoint's
  Device device;
  std::int64_t profile_first = 0, profile_last = 0;  ///< steps, counted from 1, that a profiler records; 0 = none
  /// Checkpoint whose weights a new run starts from; "" = the recipe's seed. A run that resumes from a checkpoint of its
  /// own keeps to that, and the log says so.
  std::string init{};
};

class Trainer {
 public:
  /// Opens the data (recipe.data.path: splits "train" and "val"), builds the model and, when resuming, loads the newest
  /// good checkpoint. Throws before anything is written if recipe, data, ranks and run folder do not fit together, and
  /// Stopped, on every rank, when a signal has come to one: the run is as it was.
  Trainer(const Recipe& recipe, const TrainOptions& options, Communicator& communicator);

  /// Trains to the recipe's end. Throws qm::Error if the loss or a gradient stops being finite, naming step, layer,
  /// tensor and samples (with train.not_finite = "skip" such a step is left out instead), and Stopped, on every
  /// rank, when a signal has come to one and a checkpoint of where training stands is on the disk.
  void run();

 private:
  void open_run_folder(const TrainOptions& options);
  void take_initial_weights(const std::string& checkpoint);
  std::optional<std::int64_t> resume_from_newest(const TrainOptions& options);
  void take_best_of(const FoundCheckpoint& found);
  void move_to_other_batches(std::int64_t saved_global_batch);
  void share_state_with_ranks();
  std::unique_ptr<Loader> make_loader() const;

  void train();
  void train_step();
  void put_batches(std::int64_t step);

  // Steps that are not finite (trainer_replay.cpp). The first is collective, and throws.
  void check_finite();
  bool skip_if_not_finite();
  std::string replay(std::int64_t step);

  bool is_main() const { return communicator_.rank() == 0; }
  bool finished_epoch() const { return state_.step_in_epoch == 0 && state_.step > 0; }
  bool finished_run() const { return state_.step >= end_step_; }
  bool evaluation_due() const;
  bool checkpoint_due() const;

  void log_start();
  void log_step();
  void evaluate_and_save();
  void run_evaluation();
  void save_checkpoints(SaveAs names);
  void save_before_leaving();
  void wait_for_saver();
  void finish_saving();

  Recipe recipe_;
  Communicator& communicator_;
  ShardSet train_shards_, val_shards_;
  Network network_;
  TrainStep step_;
  std::vector<std::string> initial_report_;  // of the weights that the run starts from, if a file has them
  std::unique_ptr<RunFolder> folder_;  // rank 0 only
  TrainLog log_;
  std::int64_t profile_first_, profile_last_;  // steps that a profiler records
  std::string samples_path_;
  std::ofstream samples_;  // open where samples are logged
  std::string coming_samples_;  // lines of the batches that put() has brought last
  double data_wait_ = 0;  // seconds, of waits that outlasted the step that the device was at

  std::int64_t steps_per_epoch_ = 0;
  std::int64_t end_step_ = 0;
  Schedule schedule_;
  TrainingState state_;
  std::int64_t saved_step_ = 0;  // of the newest step-*.h5
  std::int64_t skips_in_a_row_ = 0;
  bool new_best_ = false;        // whether this step's evaluation was the best so far

  std::unique_ptr<CheckpointSaver> saver_;  // rank 0 only
  std::unique_ptr<Loader> loader_;
};

}  // namespace qm
