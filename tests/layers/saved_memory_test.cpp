// The memory that is told before a step, against what the allocator counts in one.
#include "layers/saved_memory.h"

#include <gtest/gtest.h>

#include "autograd/ops/soft_cross_entropy.h"
#include "autograd/tape.h"
#include "kernels/base/allocator.h"
#include "tests/support/models.h"

namespace qm {
namespace {

constexpr std::int64_t kBatch = 4;

/// Bytes above those of parameters and images, at the end of forward.
double measured(const QuadMambaConfig& config, std::int64_t height, std::int64_t width, bool checkpoint) {
  const TestModel model(config, 1, DType::kFloat32);
  const Tensor images = random_tensor({kBatch, height, width, 3}, 2).to(DType::kFloat32);
  const Tensor targets = random_tensor({kBatch, config.classes}, 3, 0, 1).to(DType::kFloat32);
  const StepRecord record{.seed = 6, .step = 2};
  Allocator& allocator = allocator_for(Device{});
  const std::size_t before = allocator.stats().allocated - images.bytes();
  Tape tape;
  Tensor loss;
  {
    const Tape::Recording recording(tape);
    loss = soft_cross_entropy(model.network(images, {.record = &record, .checkpoint = checkpoint}), targets, 1);
  }
  return static_cast<double>(allocator.stats().allocated - before);
}

TEST(layers, saved_memory_is_what_forward_keeps) {
  QuadMambaConfig config = tiny_config();
  config.dim = 16;
  config.depths = {2, 1, 3, 1};
  for (const FineOrder order : {FineOrder::kQuadtree, FineOrder::kWindowRaster}) {
    for (const std::int64_t states : {1, 2}) {
      config.fine_order = order;
      config.state_size = states;
      for (const auto& [height, width] : {std::pair<std::int64_t, std::int64_t>{64, 64}, {68, 84}}) {
        const double told = saved_bytes(config, height, width, kBatch, DType::kFloat32, false);
        const double kept = measured(config, height, width, false);
        EXPECT_NEAR(told / kept, 1, 0.02) << height << "x" << width << ": told " << told << ", kept " << kept;
      }
    }
  }
}

TEST(layers, saved_memory_of_checkpointed_blocks) {
  QuadMambaConfig config = tiny_config();
  config.dim = 16;
  config.depths = {2, 2, 6, 2};
  const double kept = measured(config, 64, 64, true);
  // Told with the largest block's own, which backward makes again; that is not there at the end of forward.
  EXPECT_GT(saved_bytes(config, 64, 64, kBatch, DType::kFloat32, true), kept);
  EXPECT_LT(kept, 0.5 * measured(config, 64, 64, false));
}

}  // namespace
}  // namespace qm
