// Activation checkpointing of the network's blocks.
#include "autograd/checkpoint.h"

#include <gtest/gtest.h>

#include "autograd/ops/soft_cross_entropy.h"
#include "autograd/tape.h"
#include "kernels/base/allocator.h"
#include "tests/support/models.h"
#include "tests/support/thread_count.h"

namespace qm {
namespace {

constexpr std::int64_t kBatch = 4;

struct Outcome {
  double loss = 0;
  std::vector<double> gradients;
  std::vector<int> hook_calls;  ///< of each parameter
  std::size_t peak = 0;         ///< bytes above what was there before
};

Outcome train_once(bool checkpoint) {
  QuadMambaConfig config = tiny_config();
  config.depths = {2, 2, 3, 2};
  config.drop_path = 0.3;
  config.fine_order = FineOrder::kWindowRaster;
  TestModel model(config, 1);
  model.perturb(0.1);
  const Tensor images = random_tensor({kBatch, 36, 44, 3}, 2), targets = random_tensor({kBatch, config.classes}, 3, 0, 1);
  const StepRecord record{.seed = 6, .step = 2};
  Outcome outcome;
  outcome.hook_calls.assign(model.store.list().size(), 0);
  for (std::size_t i = 0; i < outcome.hook_calls.size(); ++i) {
    model.store.list()[i].tensor.set_grad_hook([&outcome, i] { ++outcome.hook_calls[i]; });
  }

  Allocator& allocator = allocator_for(Device{});
  allocator.reset_peak();
  const std::size_t before = allocator.stats().allocated;
  Tape tape;
  Tensor loss;
  {
    const Tape::Recording recording(tape);
    loss = soft_cross_entropy(model.network(images, {.record = &record, .checkpoint = checkpoint}), targets, 1.0 / kBatch);
  }
  tape.backward(loss);
  outcome.peak = allocator.stats().peak - before;
  outcome.loss = values_of(loss)[0];
  outcome.gradients = values_of(model.store.gradients());
  return outcome;
}

TEST(layers, checkpointed_blocks_give_the_same_bits_from_less_memory) {
  const ThreadCount one(1);
  const Outcome kept = train_once(false), again = train_once(true);
  EXPECT_EQ(kept.loss, again.loss);
  EXPECT_EQ(kept.gradients, again.gradients);
  EXPECT_EQ(kept.hook_calls, again.hook_calls);
  for (const int calls : again.hook_calls) EXPECT_EQ(calls, 1);
  EXPECT_LT(again.peak, kept.peak / 2) << kept.peak;
}

TEST(layers, checkpoint_without_a_tape_is_the_body) {
  int calls = 0;
  const Tensor x = random_tensor({3}, 1);
  const std::vector<Tensor> y = checkpoint({x, Tensor()}, {}, [&](const std::vector<Tensor>& inputs) {
    ++calls;
    EXPECT_FALSE(inputs[1].defined());
    return std::vector<Tensor>{inputs[0].clone()};
  });
  EXPECT_EQ(values_of(y.at(0)), values_of(x));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace qm
