#include "launch/train_step.h"

#include <limits>

#include "autograd/ops/pixel_ops.h"
#include "autograd/ops/soft_cross_entropy.h"
#include "kernels/base/fault.h"
#include "kernels/memory.h"

namespace qm {
namespace {

/// Large enough that an all-reduce is bandwidth-bound, small enough that the first starts early in backward.
constexpr std::size_t kBucketBytes = std::size_t{8} << 20;
/// Steps before the capture: they fill the allocator's cache and choose cuBLASLt's and cuDNN's algorithms.
constexpr std::int64_t kEagerSteps = 2;

std::vector<AdamWSegment> segments_of(const ParameterStore& parameters) {
  std::vector<AdamWSegment> segments;
  for (const auto& parameter : parameters.list()) {
    segments.push_back({parameter.offset, parameter.count(), parameter.decays()});
  }
  return segments;
}

template <class T>
void copy_to_device(const std::vector<T>& values, const Tensor& bytes) {
  copy_bytes(bytes.stream(), bytes.raw(), bytes.device(), values.data(), Device{}, values.size() * sizeof(T));
}

}  // namespace

bool mixes(const Recipe& recipe) { return recipe.mix.mixes(); }

std::vector<Share> micro_batches_of(const Recipe& recipe, const Communicator& communicator) {
  // A row's mixing partner is its neighbour, so portions are cut between pairs.
  const std::int64_t unit = mixes(recipe) ? 2 : 1;
  const Share share = share_of(recipe.train.global_batch, communicator.rank(), communicator.size(), unit);
  return micro_batches_of(share, recipe.train.micro_batch, unit);
}

TrainStep::TrainStep(const Recipe& recipe, Network& network, Communicator& communicator)
    : recipe_(recipe),
      network_(network),
      communicator_(communicator),
      optimizer_(optimizer_config(recipe), network.parameters.values(), network.parameters.gradients(),
                 segments_of(network.parameters)),
      micro_batches_(micro_batches_of(recipe, communicator)),
      batches_(network.device(), micro_batches_.size()),
      blurs_(may_blur(loader_config(recipe).augment.rand_augment)),
      done_(network.device()) {
  const Device device = network.device();
  loss_ = Tensor::zeros({1}, network.parameters.values().dtype(), device);
  records_ =
      Tensor::zeros({static_cast<std::int64_t>(micro_batches_.size() * sizeof(StepRecord))}, DType::kUInt8, device);
  if (mixes(recipe)) {
    const std::int64_t count = (recipe.train.global_batch + mix_group(recipe) - 1) / mix_group(recipe);
    groups_ = Tensor::zeros({count * static_cast<std::int64_t>(sizeof(MixGroup))}, DType::kUInt8, device);
  }
  optimizer_.keep_rounded(network.parameters.rounded());
  connect_reducer();
}

void TrainStep::connect_reducer() {
  std::vector<GradientRange> ranges;
  for (const auto& parameter : network_.parameters.list()) ranges.push_back({parameter.offset, parameter.count()});
  reducer_ = std::make_unique<GradientReducer>(communicator_, network_.parameters.gradients(), ranges, kBucketBytes);
  std::size_t index = 0;
  for (const auto& parameter : network_.parameters.list()) {
    parameter.tensor.set_grad_hook([this, index] { reducer_->mark_ready(index); });
    ++index;
  }
}

// ---- inputs ----------------------------------------------------------------------------------------------------------

void TrainStep::put(Batch batch) {
  batches_.put(std::move(batch));
}

void TrainStep::write_record(std::int64_t step, std::int64_t epoch, double learning_rate) {
  std::vector<StepRecord> records;
  for (const Share& share : micro_batches_) {
    StepRecord record{.seed = recipe_.seed,
                      .step = static_cast<std::uint32_t>(step),
                      .first_position = static_cast<std::uint32_t>(share.first),
                      .learning_rate = learning_rate,
                      .ema_decay = recipe_.train.ema_decay};
    optimizer_.correct_bias(record);
    records.push_back(record);
  }
  copy_to_device(records, records_);
  if (!groups_.defined()) return;
  std::vector<MixGroup> groups(static_cast<std::size_t>(groups_.count()) / sizeof(MixGroup));
  const bool off = recipe_.mix.off_epoch > 0 && epoch >= recipe_.mix.off_epoch;
  for (std::size_t g = 0; g < groups.size() && !off; ++g) {
    groups[g] = draw_mix(mix_config(recipe_), recipe_.seed, static_cast<std::uint32_t>(step),
                         static_cast<std::uint32_t>(g), recipe_.model.height, recipe_.model.width);
  }
  copy_to_device(groups, groups_);
}

// ---- the step --------------------------------------------------------------------------------------------------------

void TrainStep::run(std::int64_t step, std::int64_t epoch, double learning_rate) {
  write_record(step, epoch, learning_rate);
  batches_.take();
  const bool captures = recipe_.train.graph && network_.device().type == DeviceType::kCuda;
  poisoned_ = fault_point("loss");
  if (captures && !graph_ && !poisoned_ && runs_ >= kEagerSteps) {
    graph_ = std::make_unique<Graph>(loss_.stream(), [this] { queue(); });
  }
  ++runs_;
  if (graph_ && !poisoned_) {
    graph_->launch();
    communicator_.watch(loss_.stream(), concat("training step ", step + 1, " as a graph"));
  } else {
    queue();
  }
  done_.record(loss_.stream());
}

void TrainStep::queue() {
  network_.parameters.gradients().zero();
  loss_.zero();
  for (std::size_t micro = 0; micro < micro_batches_.size(); ++micro) {
    if (micro + 1 == micro_batches_.size()) reducer_->begin();
    try {
      forward_backward(batches_.taken()[micro], micro);
    } catch (const OutOfMemory& error) {
      throw OutOfMemory(concat(error.what(), ", in a micro-batch of ", micro_batches_[micro].count, " images of ",
                               recipe_.model.height, "x", recipe_.model.width, ": lower train.micro_batch",
                               recipe_.train.activation_checkpointing ? ""
                                                                      : ", or set train.activation_checkpointing = true"));
    }
  }
  reducer_->finish();
  if (poisoned_) fill(loss_.stream(), loss_.dtype(), std::numeric_limits<double>::quiet_NaN(), loss_.raw(), 1);
  communicator_.all_reduce_sum(loss_);
  optimizer_.step(static_cast<const StepRecord*>(records_.raw()), loss_);
}

void TrainStep::begin_replay(std::int64_t step, std::int64_t epoch) {
  write_record(step, epoch, 0);
  network_.parameters.gradients().zero();
}

void TrainStep::replay(const Batch& batch, std::size_t micro, const std::function<void(Tape&)>& watch) {
  const Device device = network_.device();
  const auto there = [&](const Tensor& tensor) { return tensor.defined() ? tensor.to(device) : Tensor(); };
  forward_backward({there(batch.images), there(batch.labels), there(batch.erased), there(batch.pixel_ops)}, micro, watch);
}

void TrainStep::forward_backward(const DeviceBatch& batch, std::size_t micro, const std::function<void(Tape&)>& watch) {
  const StepRecord* record = static_cast<const StepRecord*>(records_.raw()) + micro;
  const MixSettings settings{.normalization = normalization(recipe_),
                             .label_smoothing = recipe_.train.label_smoothing,
                             .classes = recipe_.model.classes,
                             .group = mix_group(recipe_),
                             .groups = groups_.defined() ? static_cast<const MixGroup*>(groups_.raw()) : nullptr,
                             .record = record,
                             .erased = batch.erased};
  const Tensor images =
      batch.pixel_ops.defined() ? apply_pixel_ops(batch.images, batch.pixel_ops, blurs_) : batch.images;
  const MixedBatch mixed = mix_images(images, batch.labels, settings, network_.parameters.activations());
  Tape tape;
  if (watch) watch(tape);
  const bool checkpoints = recipe_.train.activation_checkpointing && !watch;  // who watches wants to see every operation
  Tensor loss;
  {
    Tape::Recording recording(tape);
    const Tensor logits = (*network_.model)(mixed.x, ForwardContext{.record = record, .checkpoint = checkpoints});
    loss = soft_cross_entropy(logits, mixed.targets, 1.0 / static_cast<double>(recipe_.train.global_batch));
  }
  tape.backward(loss);
  visit_real(loss_.dtype(), "train step", [&]<class T>() {
    add_inplace<T>(loss_.stream(), loss.data<T>(), loss_.data<T>(), 1);
  });
}

}  // namespace qm
