// A set as large as ImageNet, of tiny images: start-up, memory, and three epochs without growth. Memory over many epochs
// of real images.
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "data/loader.h"
#include "data/pack.h"
#include "data/sampler.h"
#include "data/shard.h"
#include "kernels/base/error.h"
#include "tests/support/images.h"
#include "tests/support/real_images.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

constexpr std::int64_t kImages = 1'281'167, kShards = 137, kClasses = 1000, kBatch = 128;

void write_shards(const std::string& folder) {
  std::vector<std::string> classes;
  for (std::int64_t label = 0; label < kClasses; ++label) classes.push_back(concat("n", 10'000'000 + label));
  const std::vector<std::uint8_t> image = encode_png(noise_image(2, 2, 1));
  for (std::int64_t number = 0; number < kShards; ++number) {
    ShardWriter writer(folder, "train", number, kShards, classes);
    for (std::int64_t id = kImages * number / kShards; id < kImages * (number + 1) / kShards; ++id) {
      writer.append({image, static_cast<std::int32_t>(id % kClasses), static_cast<std::uint64_t>(id), 2, 2});
    }
    writer.finish();
    writer.publish();
  }
}

/// The process's memory in MiB.
std::int64_t resident() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6)) / 1024;
  }
  return 0;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Seconds that this thread could have run and had no core, as others had them; 0 where the system does not tell.
double seconds_without_core() {
  std::ifstream statistics("/proc/thread-self/schedstat");
  double running = 0, waiting = 0;  // ns
  return statistics >> running >> waiting ? waiting * 1e-9 : 0;
}

/// From nothing to the first batch, on a machine that others use too.
struct Start {
  Start(const std::string& folder, const LoaderConfig& config, const Loader::NextRequest& next_request) {
    const auto start = std::chrono::steady_clock::now();
    const double without_core = seconds_without_core();
    const auto own_seconds = [&] { return seconds_since(start) - (seconds_without_core() - without_core); };
    shards.emplace(folder, "train");
    opened = own_seconds();
    loader.emplace(*shards, config, next_request);
    if (!loader->next()) throw Error("no first batch");
    first_batch = own_seconds();
  }

  std::optional<ShardSet> shards;
  std::optional<Loader> loader;
  double opened = 0, first_batch = 0;  // seconds that are its own
};

TEST(data, loader_slow_simulated_imagenet) {
  const TemporaryFolder folder;
  write_shards(folder.path().string());
  malloc_trim(0);
  const std::int64_t before = resident();
  std::optional<ShardSet> alone(std::in_place, folder.path().string(), "train");
  malloc_trim(0);
  const std::int64_t index = resident() - before;
  alone.reset();

  const std::int64_t steps = steps_per_epoch(kImages, kBatch);
  std::int64_t step = 0;
  const LoaderConfig config{.height = 2, .width = 2, .threads = 2, .prefetch = 4, .augment = {}, .eval = {}};
  const Loader::NextRequest next_request = [&]() -> std::optional<BatchRequest> {
    if (step == 3 * steps) return std::nullopt;
    const BatchRequest request{static_cast<std::uint32_t>(step / steps), step % steps * kBatch, kBatch, true};
    ++step;
    return request;
  };
  // The best of a few: others on the machine make a start longer, never shorter.
  std::optional<Start> start;
  double first_batch = 0;
  for (int i = 0; i < 3; ++i) {
    step = 0;
    start.reset();
    start.emplace(folder.path().string(), config, next_request);
    std::printf("opened in %.2f s, first batch after %.2f s\n", start->opened, start->first_batch);
    first_batch = i == 0 ? start->first_batch : std::min(first_batch, start->first_batch);
  }
  std::printf("index %lld MiB\n", static_cast<long long>(index));
  EXPECT_LT(first_batch, 2);

  Loader& loader = *start->loader;
  std::int64_t taken = 1, lowest = 0, highest = 0;
  while (loader.next()) {
    if (++taken == steps / 2) lowest = highest = resident();
    if (taken % 1000 == 0 && taken > steps / 2) highest = std::max(highest, resident());
  }
  EXPECT_EQ(taken, 3 * steps);
  std::printf("resident %lld MiB in the first epoch, at most %lld MiB after it\n", static_cast<long long>(lowest),
              static_cast<long long>(highest));
  EXPECT_LE(highest, lowest + 16);
}

// Every epoch has other crops of each image, and ends with an evaluation by a loader of its own, as in training.
TEST(data, loader_slow_real_images_take_no_more_memory_from_epoch_to_epoch) {
  QM_NEEDS_REAL_IMAGES();
  constexpr std::int64_t kSize = 224, kRealBatch = 32, kEpochs = 16, kSettled = 4;
  const TemporaryFolder folder;
  pack({.input = real_images_path(), .split = "train", .output = folder / "out", .threads = 2});
  const ShardSet shards(folder / "out", "train");
  const std::int64_t steps = steps_per_epoch(kRealImages, kRealBatch);
  const LoaderConfig config{
      .height = kSize,
      .width = kSize,
      .threads = 2,
      .prefetch = 4,
      .augment = {.crop = CropMode::kResized,
                  .flip = 0.5,
                  .rand_augment = {.layers = 2, .magnitude = 9, .magnitude_std = 0.5}},
      .erasing = {.probability = 0.25},
      .eval = {.resize = 256}};
  std::int64_t asked = 0;
  Loader training(shards, config, [&]() -> std::optional<BatchRequest> {
    if (asked == kEpochs * steps) return std::nullopt;
    const std::int64_t step = asked++;
    return BatchRequest{static_cast<std::uint32_t>(step / steps), step % steps * kRealBatch, kRealBatch, true};
  });
  const auto evaluate = [&] {
    std::int64_t first = 0, count = 0;
    Loader evaluation(shards, config, [&]() -> std::optional<BatchRequest> {
      if (first == kRealImages) return std::nullopt;
      const BatchRequest request{0, first, std::min(kRealBatch, kRealImages - first), false};
      first += request.count;
      return request;
    });
    while (const auto batch = evaluation.next()) count += batch->request.count;
    EXPECT_EQ(count, kRealImages);
  };
  std::int64_t settled = 0, highest = 0;
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    for (std::int64_t step = 0; step < steps; ++step) ASSERT_TRUE(training.next());
    evaluate();
    (epoch < kSettled ? settled : highest) = std::max(epoch < kSettled ? settled : highest, resident());
  }
  std::printf("resident at most %lld MiB after the first %lld epochs, %lld MiB in the %lld after them\n",
              static_cast<long long>(settled), static_cast<long long>(kSettled), static_cast<long long>(highest),
              static_cast<long long>(kEpochs - kSettled));
  EXPECT_LE(highest, settled + 16);
}

}  // namespace
}  // namespace qm
