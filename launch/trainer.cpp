#include "launch/trainer.h"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "autograd/ops/soft_cross_entropy.h"
#include "autograd/tape.h"
#include "data/sampler.h"
#include "kernels/base/allocator.h"
#include "kernels/memory.h"
#include "launch/initial_weights.h"
#include "launch/revision.h"
#include "launch/weights.h"

namespace qm {
namespace {

/// Large enough that an all-reduce is bandwidth-bound, small enough that the first starts early in backward.
constexpr std::size_t kBucketBytes = std::size_t{8} << 20;

bool mixes(const Recipe& recipe) { return recipe.mix.mixup > 0 || recipe.mix.cutmix > 0; }

std::vector<AdamWSegment> segments_of(const ParameterStore& parameters) {
  std::vector<AdamWSegment> segments;
  for (const auto& parameter : parameters.list()) {
    segments.push_back({parameter.offset, parameter.count(), parameter.decays()});
  }
  return segments;
}

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

/// Hosts may hold other files under the same names: steps would not match, or gradients of other samples be summed.
void check_same_on_ranks(Recipe recipe, const ShardSet& train, const ShardSet& val, Communicator& communicator) {
  recipe.name.clear();
  recipe.data.path.clear();
  recipe.data.threads = recipe.data.prefetch = 1;
  const std::vector<std::string> all =
      communicator.all_gather_bytes(concat(recipe.to_toml(), train.digest(), " ", val.digest()));
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    QM_CHECK(all[rank] == all[0], ConfigError, "rank ", rank, " has another recipe or other data than rank 0");
  }
}

template <class T>
void copy_to_device(const std::vector<T>& values, const Tensor& bytes) {
  copy_bytes(bytes.stream(), bytes.raw(), bytes.device(), values.data(), Device{}, values.size() * sizeof(T));
}

/// Finite gradients can still lead to an infinite weight, which the optimizer would only notice a step later.
void check_all_finite(const Checkpoint& checkpoint) {
  const std::string where = concat("step ", checkpoint.state.step, ": ");
  check_all_finite(checkpoint.model, where + "model");
  check_all_finite(checkpoint.ema, where + "ema");
  check_all_finite(checkpoint.exp_avg, where + "optimizer/exp_avg");
  check_all_finite(checkpoint.exp_avg_sq, where + "optimizer/exp_avg_sq");
}

std::string duration(double seconds) {
  const auto total = static_cast<long long>(seconds + 0.5);
  char text[32];
  std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", total / 3600, total / 60 % 60, total % 60);
  return text;
}

std::string formatted(const char* format, auto... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

}  // namespace

// ---- start -----------------------------------------------------------------------------------------------------------

Trainer::Trainer(const Recipe& recipe, const TrainOptions& options, Communicator& communicator)
    : recipe_(recipe),
      communicator_(communicator),
      train_shards_(recipe.data.path, "train"),
      val_shards_(recipe.data.path, "val"),
      network_(recipe, options.device),
      optimizer_(optimizer_config(recipe), network_.parameters.values(), network_.parameters.gradients(),
                 segments_of(network_.parameters)) {
  check_classes(recipe, train_shards_);
  check_classes(recipe, val_shards_);
  QM_CHECK(train_shards_.class_names() == val_shards_.class_names(), ConfigError, recipe.data.path,
           ": the splits train and val name their classes differently");
  check_same_on_ranks(recipe, train_shards_, val_shards_, communicator);
  // A row's mixing partner is its neighbour, so portions are cut between pairs.
  const std::int64_t unit = mixes(recipe) ? 2 : 1;
  const Share share = share_of(recipe.train.global_batch, communicator.rank(), communicator.size(), unit);
  micro_batches_ = micro_batches_of(share, recipe.train.micro_batch, unit);
  steps_per_epoch_ = steps_per_epoch(train_shards_.size(), recipe.train.global_batch);
  end_step_ = recipe.train.epochs * steps_per_epoch_;
  if (recipe.train.max_steps > 0) end_step_ = std::min(end_step_, recipe.train.max_steps);
  schedule_ = schedule_of(recipe, steps_per_epoch_);
  state_ = {.seed = recipe.seed,
            .world_size = communicator.size(),
            .global_batch = recipe.train.global_batch,
            .data_digest = train_shards_.digest()};

  const DType dtype = network_.parameters.values().dtype();
  loss_ = Tensor::zeros({1}, dtype, options.device);
  records_ = Tensor::zeros({static_cast<std::int64_t>(micro_batches_.size() * sizeof(StepRecord))}, DType::kUInt8,
                           options.device);
  if (mixes(recipe)) {
    const std::int64_t count = (recipe.train.global_batch + mix_group(recipe) - 1) / mix_group(recipe);
    groups_ = Tensor::zeros({count * static_cast<std::int64_t>(sizeof(MixGroup))}, DType::kUInt8, options.device);
  }
  connect_reducer();
  if (is_main()) folder_ = std::make_unique<RunFolder>(options.run_folder);
  open_run_folder(options);
}

void Trainer::open_run_folder(const TrainOptions& options) {
  if (is_main()) {
    QM_CHECK(options.resume || !folder_->has_checkpoints(), ConfigError, folder_->path(),
             ": already holds checkpoints; --resume continues that run, another --run starts a new one");
    if (options.resume) resume_from_newest();
    if (!options.init.empty() && state_.step == 0) start_from(options.init);
    folder_->truncate_metrics(state_.metrics_lines);
    folder_->write_recipe(recipe_.to_toml());
  }
  share_state_with_ranks();
}

void Trainer::start_from(const std::string& checkpoint) {
  const Tensor& values = network_.parameters.values();
  for (const std::string& line :
       load_initial_weights(checkpoint, train_shards_.class_names(), network_.parameters, values)) {
    folder_->log(line);
  }
  if (optimizer_.ema().defined()) optimizer_.ema().copy_from(values);
}

void Trainer::resume_from_newest() {
  const auto found = newest_good_checkpoint(*folder_);
  if (!found) {
    folder_->log(folder_->path() + ": no checkpoint yet, starting at step 0");
    return;
  }
  const Checkpoint& checkpoint = found->checkpoint;
  const ParameterStore& parameters = network_.parameters;
  // First: of a model of another size, names and shapes say more than recipe keys.
  load_named_tensors(checkpoint.model, parameters, parameters.values(), "model", found->path);
  check_same_run(*found, recipe_, state_.data_digest);
  load_named_tensors(checkpoint.exp_avg, parameters, optimizer_.exp_avg(), "optimizer/exp_avg", found->path);
  load_named_tensors(checkpoint.exp_avg_sq, parameters, optimizer_.exp_avg_sq(), "optimizer/exp_avg_sq", found->path);
  if (optimizer_.ema().defined()) {
    load_named_tensors(checkpoint.ema, parameters, optimizer_.ema(), "ema", found->path);
  }
  const std::int64_t world_size = state_.world_size;
  state_ = checkpoint.state;
  state_.world_size = world_size;
  folder_->log(concat("resuming from ", found->path, " at step ", state_.step));
}

void Trainer::share_state_with_ranks() {
  for (const Tensor& tensor :
       {network_.parameters.values(), optimizer_.exp_avg(), optimizer_.exp_avg_sq(), optimizer_.ema()}) {
    if (tensor.defined()) communicator_.broadcast(tensor, 0);
  }
  std::vector<char> bytes(sizeof state_);
  std::memcpy(bytes.data(), &state_, sizeof state_);
  communicator_.broadcast_bytes(bytes, 0);
  std::memcpy(&state_, bytes.data(), sizeof state_);
}

void Trainer::connect_reducer() {
  std::vector<GradientRange> ranges;
  for (const auto& parameter : network_.parameters.list()) ranges.push_back({parameter.offset, parameter.count()});
  reducer_ = std::make_unique<GradientReducer>(communicator_, network_.parameters.gradients(), ranges, kBucketBytes);
  std::size_t index = 0;
  for (const auto& parameter : network_.parameters.list()) {
    parameter.tensor.set_grad_hook([this, index] { reducer_->mark_ready(index); });
    ++index;
  }
}

/// Batches in the order the steps from here on use them: micro-batch by micro-batch, step by step, epoch by epoch.
std::unique_ptr<Loader> Trainer::make_loader() const {
  auto next = [this, step = state_.step, micro = std::size_t{0}]() mutable -> std::optional<BatchRequest> {
    if (step >= end_step_) return std::nullopt;
    const Share& share = micro_batches_[micro];
    const std::int64_t first = step % steps_per_epoch_ * recipe_.train.global_batch + share.first;
    const BatchRequest request{static_cast<std::uint32_t>(step / steps_per_epoch_), first, share.count, true};
    if (++micro == micro_batches_.size()) {
      micro = 0;
      ++step;
    }
    return request;
  };
  return std::make_unique<Loader>(train_shards_, loader_config(recipe_), next);
}

// ---- the run ---------------------------------------------------------------------------------------------------------

void Trainer::run() {
  log_start();
  loader_ = make_loader();
  interval_start_ = Clock::now();
  interval_first_step_ = state_.step;
  while (!finished_run()) {
    train_step();
    ++state_.step;
    if (++state_.step_in_epoch == steps_per_epoch_) {
      state_.step_in_epoch = 0;
      ++state_.epoch;
    }
    if (optimizer_.ema().defined()) ++state_.ema_updates;
    if (state_.step % recipe_.train.log_every == 0 || finished_run()) log_step();
    if (evaluation_due()) run_evaluation();
    if (checkpoint_due() || new_best_) save_checkpoints();
    new_best_ = false;
  }
}

void Trainer::train_step() {
  write_step_inputs();
  network_.parameters.gradients().zero();
  loss_.zero();
  for (std::size_t micro = 0; micro < micro_batches_.size(); ++micro) {
    const auto batch = loader_->next();
    QM_CHECK(batch, Error, "the loader ended before step ", state_.step);
    if (micro + 1 == micro_batches_.size()) reducer_->begin();
    forward_backward(*batch, micro);
  }
  reducer_->finish();
  communicator_.all_reduce_sum(loss_);
  optimizer_.step(static_cast<const StepRecord*>(records_.raw()), loss_);
}

void Trainer::write_step_inputs() {
  const auto step = static_cast<std::uint32_t>(state_.step);
  std::vector<StepRecord> records;
  for (const Share& share : micro_batches_) {
    StepRecord record{.seed = recipe_.seed,
                      .step = step,
                      .first_position = static_cast<std::uint32_t>(share.first),
                      .learning_rate = schedule_.learning_rate(state_.step),
                      .ema_decay = recipe_.train.ema_decay};
    optimizer_.correct_bias(record);
    records.push_back(record);
  }
  copy_to_device(records, records_);
  if (!groups_.defined()) return;
  std::vector<MixGroup> groups(static_cast<std::size_t>(groups_.count()) / sizeof(MixGroup));
  const bool off = recipe_.mix.off_epoch > 0 && state_.epoch >= recipe_.mix.off_epoch;
  for (std::size_t g = 0; g < groups.size() && !off; ++g) {
    groups[g] = draw_mix(mix_config(recipe_), recipe_.seed, step, static_cast<std::uint32_t>(g), recipe_.model.height,
                         recipe_.model.width);
  }
  copy_to_device(groups, groups_);
}

void Trainer::forward_backward(const Batch& batch, std::size_t micro) {
  const StepRecord* record = static_cast<const StepRecord*>(records_.raw()) + micro;
  MixSettings settings{
      .normalization = normalization(recipe_),
      .label_smoothing = recipe_.train.label_smoothing,
      .classes = recipe_.model.classes,
      .group = mix_group(recipe_),
      .groups = groups_.defined() ? static_cast<const MixGroup*>(groups_.raw()) : nullptr,
      .record = record,
      .erased = {}};
  const Device device = network_.device();
  if (batch.erased.defined()) settings.erased = batch.erased.to(device);
  const MixedBatch mixed = mix_images(batch.images.to(device), batch.labels.to(device), settings, loss_.dtype());
  Tape tape;
  Tensor loss;
  {
    Tape::Recording recording(tape);
    const Tensor logits = (*network_.model)(mixed.x, ForwardContext{.record = record});
    loss = soft_cross_entropy(logits, mixed.targets, 1.0 / static_cast<double>(recipe_.train.global_batch));
  }
  tape.backward(loss);
  visit_real(loss_.dtype(), "trainer", [&]<class T>() {
    add_inplace<T>(loss_.stream(), loss.data<T>(), loss_.data<T>(), 1);
  });
}

void Trainer::check_finite() const {
  if (optimizer_.not_finite().to_vector<std::int32_t>().at(0) == 0) return;
  throw Error(concat("the loss or a gradient is not finite at or before step ", state_.step,
                     "; nothing was saved since the last checkpoint"));
}

// ---- what is due when ------------------------------------------------------------------------------------------------

bool Trainer::evaluation_due() const {
  const std::int64_t every = recipe_.eval.every_epochs;
  return finished_run() || (finished_epoch() && every > 0 && state_.epoch % every == 0);
}

bool Trainer::checkpoint_due() const {
  const auto& checkpoint = recipe_.checkpoint;
  return finished_run() || (checkpoint.every_steps > 0 && state_.step % checkpoint.every_steps == 0) ||
         (finished_epoch() && checkpoint.every_epochs > 0 && state_.epoch % checkpoint.every_epochs == 0);
}

// ---- reports ---------------------------------------------------------------------------------------------------------

void Trainer::log_start() {
  if (!is_main()) return;
  const Share& micro = micro_batches_.front();
  folder_->log(concat(recipe_.name, ": ", network_.parameters.count(), " parameters, ", to_string(recipe_.precision),
                      " on ", loss_.device().name(), ", ", communicator_.size(), " ranks (", communicator_.name(),
                      "), global batch ", recipe_.train.global_batch, " = ", communicator_.size(), " x ",
                      micro_batches_.size(), " x ", micro.count));
  folder_->log(concat(train_shards_.size(), " training images, ", val_shards_.size(), " for evaluation; ",
                      steps_per_epoch_, " steps an epoch (",
                      train_shards_.size() - steps_per_epoch_ * recipe_.train.global_batch,
                      " images, others each epoch, are left out), to step ", end_step_));
  if (recipe_.data.shuffle == "window") {
    folder_->log(concat("shuffled within a window of ", std::min(recipe_.data.shuffle_window, train_shards_.size()),
                        " images over shards in random order"));
  }
  if (finished_run()) folder_->log(concat("nothing to do: the run stands at step ", state_.step));
}

void Trainer::log_step() {
  check_finite();
  if (!is_main()) return;
  const double seconds = std::chrono::duration<double>(Clock::now() - interval_start_).count();
  const auto steps = static_cast<double>(state_.step - interval_first_step_);
  const double loss = loss_.to(DType::kFloat64).to_vector<double>().at(0);
  const double norm = optimizer_.grad_norm().to_vector<double>().at(0);
  const double rate = schedule_.learning_rate(state_.step - 1);
  const double images_per_second = steps * static_cast<double>(recipe_.train.global_batch) / seconds;
  const double wait = 100 * (loader_->wait_seconds() - interval_wait_) / seconds;
  const auto memory = static_cast<std::int64_t>(allocator_for(loss_.device()).stats().peak);
  const double eta = seconds / steps * static_cast<double>(end_step_ - state_.step);
  const double epoch = static_cast<double>(state_.step) / static_cast<double>(steps_per_epoch_);

  folder_->log(formatted("epoch %.2f/%lld  step %lld/%lld  loss %.4f  norm %.3f  lr %.3e  %.0f img/s  wait %.1f%%  "
                         "memory %lld MiB  eta %s",
                         epoch, static_cast<long long>(recipe_.train.epochs), static_cast<long long>(state_.step),
                         static_cast<long long>(end_step_), loss, norm, rate, images_per_second, wait,
                         static_cast<long long>(memory >> 20), duration(eta).c_str()));
  folder_->record(JsonLine()
                      .add("kind", std::string("train"))
                      .add("step", state_.step)
                      .add("epoch", epoch)
                      .add("loss", loss)
                      .add("grad_norm", norm)
                      .add("learning_rate", rate)
                      .add("images_per_second", images_per_second)
                      .add("data_wait_percent", wait)
                      .add("memory_bytes", memory)
                      .add("eta_seconds", eta));
  interval_start_ = Clock::now();
  interval_wait_ = loader_->wait_seconds();
  interval_first_step_ = state_.step;
}

void Trainer::run_evaluation() {
  check_finite();
  const auto start = Clock::now();
  double top1 = log_evaluation("model").top1;
  if (const Tensor& ema = optimizer_.ema(); ema.defined()) {
    const Tensor& values = network_.parameters.values();
    const Tensor trained = values.clone();
    values.copy_from(ema);
    top1 = std::max(top1, log_evaluation("ema").top1);
    values.copy_from(trained);
  }
  new_best_ = state_.best_step == 0 || top1 > state_.best_top1;
  if (new_best_) {
    state_.best_top1 = top1;
    state_.best_step = state_.step;
  }
  interval_start_ += Clock::now() - start;  // images/s is that of training
}

EvalResult Trainer::log_evaluation(const std::string& weights) {
  const EvalResult result = evaluate(network_, recipe_, val_shards_, communicator_);
  if (!is_main()) return result;
  folder_->log(concat("evaluation at step ", state_.step, ", ", weights, " weights: ", result.text()));
  folder_->record(JsonLine()
                      .add("kind", std::string("eval"))
                      .add("step", state_.step)
                      .add("epoch", state_.epoch)
                      .add("weights", weights)
                      .add("top1", result.top1)
                      .add("top5", result.top5)
                      .add("loss", result.loss)
                      .add("count", result.count));
  return result;
}

void Trainer::save_checkpoints() {
  check_finite();
  if (is_main()) {
    const Checkpoint checkpoint = make_checkpoint();
    check_all_finite(checkpoint);
    // The best first: a run killed between the two resumes from before both and writes both again.
    if (new_best_) write_checkpoint(folder_->best_path(), checkpoint);
    if (checkpoint_due()) {
      const std::string path = folder_->checkpoint_path(state_.step);
      write_checkpoint(path, checkpoint);
      folder_->prune(recipe_.checkpoint.keep_last, state_.step);
      folder_->log("saved " + path);
    }
  }
  communicator_.barrier();
}

Checkpoint Trainer::make_checkpoint() const {
  const ParameterStore& parameters = network_.parameters;
  Checkpoint checkpoint{.model = named_tensors(parameters, parameters.values()),
                        .ema = {},
                        .exp_avg = named_tensors(parameters, optimizer_.exp_avg()),
                        .exp_avg_sq = named_tensors(parameters, optimizer_.exp_avg_sq()),
                        .state = state_,
                        .recipe = recipe_.to_toml(),
                        .revision = source_revision(),
                        .class_names = train_shards_.class_names()};
  if (optimizer_.ema().defined()) checkpoint.ema = named_tensors(parameters, optimizer_.ema());
  checkpoint.state.metrics_lines = folder_->metrics_lines();
  return checkpoint;
}

}  // namespace qm
