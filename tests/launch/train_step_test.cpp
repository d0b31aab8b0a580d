#include "launch/train_step.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/base/allocator.h"
#include "tests/support/gpu.h"
#include "tests/support/gpu_work.h"

namespace qm::test {
namespace {

/// Small, so that an eager step is some hundred launches: of more than about a thousand a GPU would make the host wait.
Recipe recipe_of(Precision precision, bool graph) {
  Recipe recipe = Recipe::parse(R"(
    seed = 0
    precision = "fp32"
    [model]
    dim = 16
    depths = [1, 1, 1, 1]
    classes = 10
    image_size = 32
    drop_path = 0.2
    [mix]
    mixup = 0.8
    [train]
    global_batch = 8
    epochs = 1
    [optimizer]
    learning_rate = 1e-3
  )", "train_step_test");
  recipe.precision = precision;
  recipe.train.graph = graph;
  return recipe;
}

/// A trainer's step on batches of its own.
class Training {
 public:
  explicit Training(const Recipe& recipe, Device device = kGpu)
      : recipe_(recipe), network_(recipe_, device), step_(recipe_, network_, *communicator_) {}

  void put() {
    for (const Share& share : step_.micro_batches()) step_.put(batch(share));
  }
  void run() { step_.run(number_++, 0, 1e-3); }
  Stream stream() const { return step_.loss().stream(); }
  bool replays() const { return step_.replays(); }
  bool idle() const { return step_.idle(); }
  std::vector<float> weights() const { return network_.parameters.values().to(Device{}).to_vector<float>(); }

 private:
  Batch batch(const Share& share) const {
    Batch batch;
    batch.request = {0, share.first, share.count, true};
    batch.images = Tensor::empty({share.count, recipe_.model.height, recipe_.model.width, 3}, DType::kUInt8);
    auto* bytes = batch.images.data<std::uint8_t>();
    for (std::int64_t i = 0; i < batch.images.count(); ++i) {
      bytes[i] = static_cast<std::uint8_t>((share.first + number_ + 1) * 2654435761 * (i + 1) >> 24);
    }
    std::vector<std::int32_t> labels;
    for (std::int64_t i = 0; i < share.count; ++i) labels.push_back(static_cast<std::int32_t>((share.first + i) % 10));
    batch.labels = Tensor::from(labels, {share.count});
    return batch;
  }

  Recipe recipe_;
  std::unique_ptr<Communicator> communicator_ = make_single_communicator();
  Network network_;
  TrainStep step_;
  std::int64_t number_ = 0;
};

/// Behind seconds of other work, a step is queued in far less: whatever waited for the device would wait for that work.
void expect_not_to_wait(bool graph) {
  constexpr std::int64_t kWarmup = 4;
  constexpr double kWork = 3;
  Training training(recipe_of(Precision::kBf16, graph));
  const GpuWork work(kWork);
  for (std::int64_t i = 0; i < kWarmup; ++i) {
    training.put();
    training.run();
  }
  synchronize(training.stream());
  EXPECT_EQ(training.replays(), graph);

  work.queue_all();
  const auto start = Clock::now();
  training.put();
  training.run();
  const double queued = seconds_since(start);
  EXPECT_FALSE(training.idle());
  synchronize(training.stream());
  const double done = seconds_since(start);
  EXPECT_TRUE(training.idle());
  EXPECT_GT(done, kWork / 2) << "there was too little work for this test to tell anything";
  EXPECT_LT(queued, kWork / 6);
}

TEST(gpu, train_step_waits_for_nothing) {
  QM_NEEDS_GPU();
  for (const bool graph : {false, true}) {
    SCOPED_TRACE(graph ? "as a graph" : "eager");
    expect_not_to_wait(graph);
  }
}

TEST(gpu, train_step_as_a_graph_has_the_bits_of_the_eager_one) {
  QM_NEEDS_GPU();
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    std::vector<std::vector<float>> weights;
    for (const bool graph : {false, true}) {
      Training training(recipe_of(precision, graph));
      for (int i = 0; i < 6; ++i) {
        training.put();
        training.run();
      }
      EXPECT_EQ(training.replays(), graph);
      weights.push_back(training.weights());
    }
    EXPECT_EQ(weights[0], weights[1]) << to_string(precision);
  }
}

/// Takes what is left of the GPU's memory, down to pieces of a megabyte.
class FullMemory {
 public:
  FullMemory() {
    for (std::size_t bytes = std::size_t{1} << 36; bytes >= std::size_t{1} << 20;) {
      try {
        blocks_.push_back(allocator_for(kGpu).allocate(bytes));
      } catch (const OutOfMemory&) {
        bytes /= 2;
      }
    }
  }
  ~FullMemory() {
    for (void* block : blocks_) allocator_for(kGpu).deallocate(block);
    allocator_for(kGpu).release_cached();
  }
  FullMemory(const FullMemory&) = delete;
  FullMemory& operator=(const FullMemory&) = delete;

 private:
  std::vector<void*> blocks_;
};

TEST(gpu, train_step_out_of_memory_names_operation_batch_and_remedy) {
  QM_NEEDS_GPU();
  Recipe recipe = recipe_of(Precision::kBf16, true);
  Training training(recipe);
  training.put();
  std::string message = "no error";
  {
    const FullMemory full;
    try {
      training.run();
    } catch (const OutOfMemory& error) {
      message = error.what();
    }
  }
  for (const char* part : {"in a micro-batch of 8 images of 32x32", "lower train.micro_batch",
                           "set train.activation_checkpointing = true", "cuda:0", " for "}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
  }
}

}  // namespace
}  // namespace qm::test
