#include "launch/trainer.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <thread>

#include "data/sampler.h"
#include "kernels/base/allocator.h"
#include "kernels/base/fault.h"
#include "kernels/base/profile.h"
#include "launch/initial_weights.h"
#include "launch/open_shards.h"
#include "launch/revision.h"
#include "launch/stop.h"
#include "launch/weights.h"

namespace qm {
namespace {

Schedule schedule_of(const Recipe& recipe, std::int64_t steps_per_epoch) {
  return {.first = recipe.first_learning_rate(),
          .peak = recipe.peak_learning_rate(),
          .last = recipe.last_learning_rate(),
          .warmup_steps =
              std::llround(recipe.schedule.warmup_epochs * static_cast<double>(steps_per_epoch)),
          .total_steps = recipe.train.epochs * steps_per_epoch};
}

void check_classes(const Recipe& recipe, const ShardSet& shards) {
  const auto classes = static_cast<std::int64_t>(shards.class_names().size());
  QM_CHECK(classes == recipe.model.classes, ConfigError, recipe.data.path, ": holds ", classes,
           " classes, the recipe's model.classes is ", recipe.model.classes);
}

/// What the order of samples depends on: the samples, and how many each shard has where windows are shuffled.
std::uint64_t order_digest(const ShardSet& shards, const LoaderConfig& loader) {
  constexpr std::uint64_t kPrime = 0x100000001b3;  // of 64-bit FNV-1a
  std::uint64_t digest = shards.digest();
  if (loader.window > 0) {
    for (const std::int64_t size : shards.shard_sizes()) digest = (digest ^ static_cast<std::uint64_t>(size)) * kPrime;
  }
  return digest;
}

/// Hosts may hold other files under the same names: steps would not match, or gradients of other samples be summed.
void check_same_on_ranks(Recipe recipe, const ShardSet& train, const ShardSet& val, Communicator& communicator) {
  recipe.name.clear();
  recipe.data.path.clear();
  recipe.data.threads = recipe.data.prefetch = 1;
  const std::vector<std::string> all =
      communicator.all_gather_bytes(concat(recipe.to_toml(), order_digest(train, loader_config(recipe)), " ", val.digest()));
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    QM_CHECK(all[rank] == all[0], ConfigError, "rank ", rank, " has another recipe or other data than rank 0");
  }
}

/// "step position id" for every sample.
std::string sample_lines(const Batch& batch, std::int64_t step) {
  std::string lines;
  std::int64_t position = batch.request.first_position;
  for (const std::uint64_t id : batch.ids) lines += concat(step, ' ', position++, ' ', id, '\n');
  return lines;
}

/// While alive, the network computes with other weights than its own.
class BorrowedWeights {
 public:
  BorrowedWeights(const ParameterStore& parameters, const Tensor& others)
      : parameters_(parameters), own_(parameters.values().clone()) {
    put(others);
  }
  ~BorrowedWeights() { put(own_); }
  BorrowedWeights(const BorrowedWeights&) = delete;
  BorrowedWeights& operator=(const BorrowedWeights&) = delete;

 private:
  void put(const Tensor& values) const {
    parameters_.values().copy_from(values);
    parameters_.round();
  }

  const ParameterStore& parameters_;
  Tensor own_;
};

}  // namespace

// ---- start -----------------------------------------------------------------------------------------------------------

Trainer::Trainer(const Recipe& recipe, const TrainOptions& options, Communicator& communicator)
    : recipe_(recipe),
      communicator_(communicator),
      train_shards_(open_shards(recipe.data.path, "train", communicator)),
      val_shards_(open_shards(recipe.data.path, "val", communicator)),
      network_(recipe, options.device),
      step_(recipe_, network_, communicator),
      profile_first_(options.profile_first),
      profile_last_(options.profile_last) {
  check_classes(recipe, train_shards_);
  check_classes(recipe, val_shards_);
  QM_CHECK(train_shards_.class_names() == val_shards_.class_names(), ConfigError, recipe.data.path,
           ": the splits train and val name their classes differently");
  check_same_on_ranks(recipe, train_shards_, val_shards_, communicator);
  steps_per_epoch_ = steps_per_epoch(train_shards_.size(), recipe.train.global_batch);
  end_step_ = recipe.train.epochs * steps_per_epoch_;
  if (recipe.train.max_steps > 0) end_step_ = std::min(end_step_, recipe.train.max_steps);
  schedule_ = schedule_of(recipe, steps_per_epoch_);
  state_ = {.seed = recipe.seed,
            .world_size = communicator.size(),
            .global_batch = recipe.train.global_batch,
            .data_digest = order_digest(train_shards_, loader_config(recipe)),
            .val_digest = val_shards_.digest()};

  if (is_main()) {
    // A file that is refused leaves no new folder behind.
    if (!options.init.empty() && !std::filesystem::exists(options.run_folder)) take_initial_weights(options.init);
    folder_ = std::make_unique<RunFolder>(options.run_folder);
    log_ = TrainLog(folder_.get());
    saver_ = std::make_unique<CheckpointSaver>(*folder_, recipe.checkpoint.keep_last, network_.parameters, step_.optimizer());
  }
  check_stop(communicator);
  open_run_folder(options);
  check_stop(communicator);
}

void Trainer::open_run_folder(const TrainOptions& options) {
  if (is_main()) {
    QM_CHECK(options.resume || !folder_->has_checkpoints(), ConfigError, folder_->path(),
             ": already holds checkpoints; --resume continues that run, another --run starts a new one");
    folder_->remove_leftovers();
    const std::optional<std::int64_t> logged_steps = options.resume ? resume_from_newest(options) : std::nullopt;
    if (!options.init.empty() && !logged_steps) {
      if (initial_report_.empty()) take_initial_weights(options.init);
      for (const std::string& line : initial_report_) folder_->log(line);
    }
    folder_->truncate_metrics(state_.metrics_lines);
    folder_->truncate_samples(logged_steps.value_or(0));
    folder_->write_recipe(recipe_.to_toml());
  }
  share_state_with_ranks();
  if (options.log_samples) {
    samples_path_ = concat(options.run_folder, "/samples-", communicator_.rank(), ".txt");
    samples_.open(samples_path_, std::ios::app);
    QM_CHECK(samples_, IoError, options.run_folder, ": samples cannot be logged there");
  }
}

void Trainer::take_initial_weights(const std::string& checkpoint) {
  const Tensor& values = network_.parameters.values();
  fault_point("load");
  initial_report_ = load_initial_weights(checkpoint, train_shards_.class_names(), network_.parameters, values);
  if (step_.optimizer().ema().defined()) step_.optimizer().ema().copy_from(values);
}

/// The steps done, as they were counted until now; nothing where there is no checkpoint.
std::optional<std::int64_t> Trainer::resume_from_newest(const TrainOptions& options) {
  const auto found = newest_good_checkpoint(*folder_);
  if (!found) {
    folder_->log(folder_->path() + ": no checkpoint yet, starting at step 0");
    return std::nullopt;
  }
  const Checkpoint& checkpoint = found->checkpoint;
  const ParameterStore& parameters = network_.parameters;
  const TrainingState own = state_;
  const std::string differences = differences_of_runs(*found, recipe_, {own.data_digest, own.val_digest});
  try {
    load_named_tensors(checkpoint.model, parameters, parameters.values(), "model", found->path);
  } catch (const ConfigError& error) {  // "PATH: names and shapes", with which --allow-change is of no use
    if (differences.empty()) throw;
    const std::string names_and_shapes = std::string(error.what()).substr(found->path.size() + 2);
    throw ConfigError(concat(found->path,
                             ": of another model, whose weights this one cannot take (train --init starts a "
                             "new run from what fits)",
                             differences, "; ", names_and_shapes));
  }
  QM_CHECK(differences.empty() || options.allow_change, ConfigError, found->path,
           ": cannot be resumed with another recipe or data unless --allow-change asks for it", differences);
  AdamW& optimizer = step_.optimizer();
  load_named_tensors(checkpoint.exp_avg, parameters, optimizer.exp_avg(), "optimizer/exp_avg", found->path);
  load_named_tensors(checkpoint.exp_avg_sq, parameters, optimizer.exp_avg_sq(), "optimizer/exp_avg_sq", found->path);
  if (optimizer.ema().defined()) {
    // With --allow-change an average may begin here, at the weights.
    const bool begins = checkpoint.ema.empty();
    load_named_tensors(begins ? checkpoint.model : checkpoint.ema, parameters, optimizer.ema(), "ema", found->path);
  }
  state_ = checkpoint.state;
  state_.seed = own.seed;
  state_.world_size = own.world_size;
  state_.data_digest = own.data_digest;
  state_.val_digest = own.val_digest;
  saved_step_ = found->newest_step;
  folder_->log(concat("resuming from ", found->path, " at step ", state_.step));
  if (!options.init.empty()) {  // as of a job that is queued again with the same command line
    folder_->log(concat("--init ", options.init, ": not used, since the run goes on with the weights of ", found->path));
  }
  if (!differences.empty()) folder_->log("another run from here on" + differences);
  take_best_of(*found);
  move_to_other_batches(checkpoint.state.global_batch);
  return checkpoint.state.step;
}

/// What a new best has to surpass is what lies there, whatever the checkpoint knows: best.h5 may be of a later step
/// that other ranks' rounding does not lead to again, or damaged, and then the next evaluation replaces it.
void Trainer::take_best_of(const FoundCheckpoint& found) {
  const bool stands = found.best && is_measured_alike(*found.best, recipe_, state_.val_digest);
  state_.best_top1 = stands ? found.best->state.best_top1 : 0;
  state_.best_step = stands ? found.best->state.best_step : 0;
  if (stands || (!found.best && found.checkpoint.state.best_step == 0)) return;
  folder_->log(concat("the best is found anew, from the next evaluation on: ",
                      found.best ? "best.h5, of another evaluation, will be old-best.h5" : "there is no good best.h5"));
  if (found.best) folder_->set_best_aside();
}

/// With another global batch, or so many samples more or less that an epoch has other steps, the run stands where the
/// same share of the epoch is done, at the next whole step.
void Trainer::move_to_other_batches(std::int64_t saved_global_batch) {
  state_.global_batch = recipe_.train.global_batch;
  const std::int64_t samples = state_.step_in_epoch * saved_global_batch;
  const std::int64_t before = state_.step;
  state_.step_in_epoch = (samples + state_.global_batch - 1) / state_.global_batch;
  if (state_.step_in_epoch >= steps_per_epoch_) {
    state_.step_in_epoch = 0;
    ++state_.epoch;
  }
  state_.step = state_.epoch * steps_per_epoch_ + state_.step_in_epoch;
  if (state_.step == before) return;
  saved_step_ = state_.step;  // as far as steps of the new count go
  folder_->log(concat("with a global batch of ", state_.global_batch, " instead of ", saved_global_batch,
                      " or other data: step ", before, " becomes step ", state_.step));
  if (state_.step < before) folder_->set_later_checkpoints_aside();
}

void Trainer::share_state_with_ranks() {
  for (const Tensor& tensor :
       {network_.parameters.values(), step_.optimizer().exp_avg(), step_.optimizer().exp_avg_sq(), step_.optimizer().ema()}) {
    if (tensor.defined()) communicator_.broadcast(tensor, 0);
  }
  network_.parameters.round();
  for (const auto& [place, size] : {std::pair<void*, std::size_t>(&state_, sizeof state_),
                                    std::pair<void*, std::size_t>(&saved_step_, sizeof saved_step_)}) {
    std::vector<char> bytes(size);
    std::memcpy(bytes.data(), place, size);
    communicator_.broadcast_bytes(bytes, 0);
    std::memcpy(place, bytes.data(), size);
  }
}

/// Batches in the order the steps from here on use them: micro-batch by micro-batch, step by step, epoch by epoch.
std::unique_ptr<Loader> Trainer::make_loader() const {
  auto next = [this, step = state_.step, micro = std::size_t{0}]() mutable -> std::optional<BatchRequest> {
    if (step >= end_step_) return std::nullopt;
    const Share& share = step_.micro_batches()[micro];
    const std::int64_t first = step % steps_per_epoch_ * recipe_.train.global_batch + share.first;
    const BatchRequest request{static_cast<std::uint32_t>(step / steps_per_epoch_), first, share.count, true};
    if (++micro == step_.micro_batches().size()) {
      micro = 0;
      ++step;
    }
    return request;
  };
  LoaderConfig config = loader_config(recipe_);
  config.defers_pixel_ops = network_.device().type == DeviceType::kCuda;  // to the step
  return std::make_unique<Loader>(train_shards_, config, next);
}

// ---- the run ---------------------------------------------------------------------------------------------------------

void Trainer::run() {
  log_start();
  fault_point("start");
  try {
    train();
  } catch (const Stopped& stopped) {
    log_.line(concat(stopped.what(), " at step ", state_.step, ": saving what --resume goes on from"));
    save_before_leaving();
    throw;
  }
  finish_saving();
}

void Trainer::train() {
  if (state_.evaluation_pending) {
    evaluate_and_save();
  } else if (saved_step_ < state_.step && checkpoint_due()) {  // after a crash between best.h5 and this step's own file
    save_checkpoints({.step = true, .best = false});
  }
  loader_ = make_loader();
  log_.start(state_.step);
  if (!finished_run()) put_batches(state_.step);
  while (!finished_run()) {
    check_stop(communicator_);
    fault_point("step");
    if (state_.step + 1 == profile_first_) start_profiler(network_.device());
    train_step();
    const bool skipped = skip_if_not_finite();
    ++state_.step;
    if (state_.step == profile_last_) stop_profiler(network_.device());
    if (++state_.step_in_epoch == steps_per_epoch_) {
      state_.step_in_epoch = 0;
      ++state_.epoch;
    }
    if (step_.optimizer().ema().defined() && !skipped) ++state_.ema_updates;
    if (state_.step % recipe_.train.log_every == 0 || finished_run()) log_step();
    evaluate_and_save();
    if (saver_) saver_->poll();
  }
}

void Trainer::evaluate_and_save() {
  state_.evaluation_pending = evaluation_due();
  if (state_.evaluation_pending) run_evaluation();  // stays pending where a signal cuts it short
  if (checkpoint_due() || new_best_) save_checkpoints({.step = checkpoint_due(), .best = new_best_});
  new_best_ = false;
}

/// The step after the one that is being computed is on its way to the device meanwhile.
void Trainer::train_step() {
  if (samples_.is_open()) {
    samples_ << coming_samples_ << std::flush;
    QM_CHECK(samples_, IoError, samples_path_, ": cannot be written (disk full?)");
  }
  step_.run(state_.step, state_.epoch, schedule_.learning_rate(state_.step));
  if (state_.step + 1 < end_step_) put_batches(state_.step + 1);
}

void Trainer::put_batches(std::int64_t step) {
  coming_samples_.clear();
  const double waited_before = loader_->wait_seconds();
  for (std::size_t micro = 0; micro < step_.micro_batches().size(); ++micro) {
    auto batch = loader_->next();
    QM_CHECK(batch, Error, "the loader ended before step ", step);
    if (samples_.is_open()) coming_samples_ += sample_lines(*batch, step);
    step_.put(std::move(*batch));
  }
  if (step_.idle()) data_wait_ += loader_->wait_seconds() - waited_before;
}

// ---- what is due when ------------------------------------------------------------------------------------------------

bool Trainer::evaluation_due() const {
  const auto& eval = recipe_.eval;
  return finished_run() || (eval.every_steps > 0 && state_.step % eval.every_steps == 0) ||
         (finished_epoch() && eval.every_epochs > 0 && state_.epoch % eval.every_epochs == 0);
}

bool Trainer::checkpoint_due() const {
  const auto& checkpoint = recipe_.checkpoint;
  return finished_run() || (checkpoint.every_steps > 0 && state_.step % checkpoint.every_steps == 0) ||
         (finished_epoch() && checkpoint.every_epochs > 0 && state_.epoch % checkpoint.every_epochs == 0);
}

// ---- reports ---------------------------------------------------------------------------------------------------------

void Trainer::log_start() {
  const Share& micro = step_.micro_batches().front();
  log_.line(concat(recipe_.name, ": ", network_.parameters.count(), " parameters, ", to_string(recipe_.precision),
                   " on ", step_.loss().device().name(), ", ", communicator_.size(), " ranks (", communicator_.name(),
                   "), global batch ", recipe_.train.global_batch, " = ", communicator_.size(), " x ",
                   step_.micro_batches().size(), " x ", micro.count));
  log_.line(concat(train_shards_.size(), " training images, ", val_shards_.size(), " for evaluation; ",
                   steps_per_epoch_, " steps an epoch (",
                   train_shards_.size() - steps_per_epoch_ * recipe_.train.global_batch,
                   " images, others each epoch, are left out), to step ", end_step_));
  if (recipe_.data.shuffle == "window") {
    log_.line(concat("shuffled within a window of ", std::min(recipe_.data.shuffle_window, train_shards_.size()),
                     " images over shards in random order"));
  }
  if (finished_run() && !state_.evaluation_pending) log_.line(concat("nothing to do: the run stands at step ", state_.step));
}

void Trainer::log_step() {
  check_finite();
  if (!is_main()) return;
  log_.step({.step = state_.step,
             .end_step = end_step_,
             .steps_per_epoch = steps_per_epoch_,
             .epochs = recipe_.train.epochs,
             .global_batch = recipe_.train.global_batch,
             .loss = step_.loss().to(DType::kFloat64).to_vector<double>().at(0),
             .grad_norm = step_.optimizer().grad_norm().to_vector<double>().at(0),
             .learning_rate = schedule_.learning_rate(state_.step - 1),
             .wait_seconds = data_wait_,
             .memory_bytes = static_cast<std::int64_t>(allocator_for(step_.loss().device()).stats().peak)});
}

void Trainer::run_evaluation() {
  check_finite();
  const auto start = TrainLog::Clock::now();
  const EvalResult trained = evaluate(network_, recipe_, val_shards_, communicator_);
  EvalResult averaged;
  const Tensor& ema = step_.optimizer().ema();
  if (ema.defined()) {
    const BorrowedWeights borrowed(network_.parameters, ema);
    averaged = evaluate(network_, recipe_, val_shards_, communicator_);
  }
  // Both or neither: a signal between the two leaves no line that a resumed run would write again.
  log_.evaluation(state_.step, state_.epoch, "model", trained);
  if (ema.defined()) log_.evaluation(state_.step, state_.epoch, "ema", averaged);
  state_.evaluation_pending = false;
  // Some logits that are numbers among others that are not make no model that is worth keeping.
  const auto worth = [](const EvalResult& result) { return std::isfinite(result.loss) ? result.top1 : 0; };
  const double top1 = std::max(worth(trained), worth(averaged));
  new_best_ = state_.best_step == 0 || top1 > state_.best_top1;
  if (new_best_) {
    state_.best_top1 = top1;
    state_.best_step = state_.step;
  }
  log_.leave_out(TrainLog::Clock::now() - start);  // images/s is that of training
}

// ---- checkpoints -----------------------------------------------------------------------------------------------------

void Trainer::save_checkpoints(SaveAs names) {
  check_finite();
  wait_for_saver();
  if (names.step) saved_step_ = state_.step;
  if (!is_main()) return;
  Checkpoint contents{.model = {},
                      .ema = {},
                      .exp_avg = {},
                      .exp_avg_sq = {},
                      .state = state_,
                      .recipe = recipe_.to_toml(),
                      .revision = source_revision(),
                      .class_names = train_shards_.class_names()};
  contents.state.metrics_lines = folder_->metrics_lines();
  saver_->save(std::move(contents), names);
}

void Trainer::save_before_leaving() {
  if (saved_step_ != state_.step) save_checkpoints({.step = true, .best = false});
  finish_saving();
}

/// Collective: until nothing is being written any more. Ranks that wait hear from rank 0 meanwhile, since a write may
/// take longer than the deadline after which they give a silent rank up.
void Trainer::wait_for_saver() {
  constexpr std::chrono::milliseconds kSignOfLife{100};
  for (std::chrono::milliseconds patience{0};; patience = kSignOfLife) {
    bool done = true;
    if (saver_) {
      done = saver_->done_within(patience);
    } else {
      std::this_thread::sleep_for(patience);  // rather than poll, beside the thread that writes
    }
    if (communicator_.all_reduce_max(done ? 0 : 1) == 0) return;
  }
}

/// No rank leaves before the last checkpoint is on the disk: mpirun would end the job under the one that writes it.
void Trainer::finish_saving() {
  wait_for_saver();
  if (saver_) saver_->finish();
  communicator_.barrier();
}

}  // namespace qm
