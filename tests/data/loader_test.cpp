#include "data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <compare>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "autograd/ops/image_mix.h"
#include "autograd/ops/pixel_ops.h"
#include "data/sampler.h"
#include "data/shard.h"
#include "kernels/base/error.h"
#include "tests/support/images.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::int64_t kSamples = 23, kFirstShard = 14;
constexpr std::int64_t kHeight = 12, kWidth = 10;

Image sample_image(std::int64_t sample) {
  return noise_image(9 + sample % 5, 20 - sample % 7, static_cast<std::uint32_t>(sample));
}

std::int32_t sample_label(std::int64_t sample) {
  return static_cast<std::int32_t>(sample % 3);
}

std::uint64_t sample_id(std::int64_t sample) {
  return static_cast<std::uint64_t>(1000 + 7 * sample);
}

/// A data set of two shards; the samples in `bad` end early.
class DataSet {
 public:
  explicit DataSet(const std::vector<std::int64_t>& bad = {}) {
    for (int number = 0; number < 2; ++number) write_shard(number, bad);
    shards_.emplace(folder_.path().string(), "train");
  }

  const ShardSet& shards() const { return *shards_; }

 private:
  void write_shard(int number, const std::vector<std::int64_t>& bad) {
    ShardWriter writer(folder_.path().string(), "train", number, 2, {"ant", "bee", "cat"});
    const std::int64_t begin = number == 0 ? 0 : kFirstShard;
    const std::int64_t end = number == 0 ? kFirstShard : kSamples;
    for (std::int64_t sample = begin; sample < end; ++sample) {
      const Image image = sample_image(sample);
      Bytes encoded = encode_png(image);
      if (std::find(bad.begin(), bad.end(), sample) != bad.end()) encoded.resize(encoded.size() / 2);
      writer.append({encoded, sample_label(sample), sample_id(sample), image.height, image.width});
    }
    writer.finish();
    writer.publish();
  }

  TemporaryFolder folder_;
  std::optional<ShardSet> shards_;
};

LoaderConfig config_of(std::int64_t threads, std::int64_t prefetch) {
  LoaderConfig config;
  config.seed = 17;
  config.height = kHeight;
  config.width = kWidth;
  config.threads = threads;
  config.prefetch = prefetch;
  config.augment = {.crop = CropMode::kResized, .flip = 0.5};
  return config;
}

/// Hands out the given requests one by one.
Loader::NextRequest in_turn(std::vector<BatchRequest> requests) {
  return [requests = std::move(requests), next = std::size_t{0}]() mutable -> std::optional<BatchRequest> {
    if (next == requests.size()) return std::nullopt;
    return requests[next++];
  };
}

/// Two epochs of training batches, then an evaluation in uneven ones.
std::vector<BatchRequest> mixed_requests() {
  std::vector<BatchRequest> requests;
  for (const std::uint32_t epoch : {0u, 1u}) {
    for (std::int64_t first = 0; first + 4 <= kSamples; first += 4) requests.push_back({epoch, first, 4, true});
  }
  for (std::int64_t first = 0; first < kSamples; first += 10) {
    requests.push_back({1, first, std::min<std::int64_t>(10, kSamples - first), false});
  }
  return requests;
}

/// What a batch must hold, computed one sample after the other.
void expect_contents(const Batch& batch, const LoaderConfig& config) {
  const BatchRequest& request = batch.request;
  ASSERT_EQ(batch.images.shape(), (Shape{request.count, kHeight, kWidth, 3}));
  ASSERT_EQ(batch.labels.shape(), (Shape{request.count}));
  ASSERT_EQ(static_cast<std::int64_t>(batch.ids.size()), request.count);
  const auto order = epoch_order(config.seed, request.epoch, kSamples);
  const Bytes images = batch.images.to_vector<std::uint8_t>();
  Bytes expected(kHeight * kWidth * 3);
  for (std::int64_t row = 0; row < request.count; ++row) {
    const std::int64_t position = request.first_position + row;
    const std::int64_t sample = request.training ? order[position] : position;
    EXPECT_EQ(batch.labels.data<std::int32_t>()[row], sample_label(sample));
    EXPECT_EQ(batch.ids[row], sample_id(sample));
    if (request.training) {
      const AugmentKey key{config.seed, request.epoch, static_cast<std::uint32_t>(position)};
      augment_train(sample_image(sample), config.augment, key, kHeight, kWidth, expected.data());
    } else {
      transform_eval(sample_image(sample), config.eval, kHeight, kWidth, expected.data());
    }
    EXPECT_EQ(std::memcmp(images.data() + row * expected.size(), expected.data(), expected.size()), 0)
        << "position " << position;
  }
}

std::string error_of(Loader& loader) {
  try {
    loader.next();
  } catch (const IoError& error) {
    return error.what();
  }
  return "";
}

TEST(data, loader_batches_are_right_for_any_threads_and_prefetch) {
  const DataSet data;
  const std::vector<BatchRequest> requests = mixed_requests();
  for (const auto& [threads, prefetch] : {std::pair{1, 1}, {2, 3}, {7, 2}, {3, 100}}) {
    const LoaderConfig config = config_of(threads, prefetch);
    Loader loader(data.shards(), config, in_turn(requests));
    for (const auto& request : requests) {
      const auto batch = loader.next();
      ASSERT_TRUE(batch);
      EXPECT_EQ(batch->request.epoch, request.epoch);
      EXPECT_EQ(batch->request.first_position, request.first_position);
      EXPECT_EQ(batch->request.training, request.training);
      expect_contents(*batch, config);
    }
    EXPECT_FALSE(loader.next());
    EXPECT_FALSE(loader.next());
  }
}

TEST(data, loader_erases_and_repeats_by_position_alone) {
  const DataSet data;
  LoaderConfig config = config_of(3, 2);
  config.erasing = {.probability = 0.5, .fill = EraseFill::kPixel, .count = 2};
  config.augment.rand_augment = {.layers = 2, .probability = 1, .magnitude = 9, .magnitude_std = 0.5};
  config.augment.color_jitter = {{0.4, 0.4, 0.4, 0.1}, 1};
  config.repeats = 2;
  config.global_batch = 8;
  const auto order = repeated_order(epoch_order(config.seed, 3, kSamples), 2, 8);
  Loader loader(data.shards(), config, in_turn({{3, 8, 5, true}, {3, 13, 3, true}, {3, 0, 4, false}}));
  for (int i = 0; i < 2; ++i) {
    const auto batch = loader.next();
    const std::int64_t count = batch->request.count;
    ASSERT_EQ(batch->erased.shape(), (Shape{count, static_cast<std::int64_t>(2 * sizeof(ErasedBox))}));
    const Bytes images = batch->images.to_vector<std::uint8_t>();
    for (std::int64_t row = 0; row < count; ++row) {
      const auto position = static_cast<std::uint32_t>(batch->request.first_position + row);
      EXPECT_EQ(batch->ids[row], sample_id(order[position]));
      std::vector<ErasedBox> boxes(2);
      draw_erasing(config.erasing, {config.seed, 3, position}, kHeight, kWidth, boxes);
      EXPECT_EQ(std::memcmp(batch->erased.data<std::uint8_t>() + row * 2 * sizeof(ErasedBox), boxes.data(),
                            2 * sizeof(ErasedBox)),
                0);
      Bytes expected(kHeight * kWidth * 3);
      augment_train(sample_image(order[position]), config.augment, {config.seed, 3, position}, kHeight, kWidth,
                    expected.data());
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), images.begin() + row * kHeight * kWidth * 3));
    }
  }
  EXPECT_FALSE(loader.next()->erased.defined());
}

/// What is deferred comes with the batch, and done afterwards gives what the threads would have given.
TEST(data, loader_defers_pixel_operations) {
  const DataSet data;
  LoaderConfig config = config_of(3, 2);
  config.augment.rand_augment = {.layers = 3, .probability = 0.7, .magnitude = 9, .magnitude_std = 0.5};
  config.augment.color_jitter = {{0.4, 0, 0.4, 0.1}, 0.8};
  const std::vector<BatchRequest> requests{{3, 0, kSamples, true}, {3, 0, 4, false}};
  Loader whole(data.shards(), config, in_turn(requests));
  const Batch expected = *whole.next();
  EXPECT_FALSE(expected.pixel_ops.defined());

  config.defers_pixel_ops = true;
  Loader loader(data.shards(), config, in_turn(requests));
  const Batch batch = *loader.next();
  ASSERT_EQ(batch.pixel_ops.shape(), (Shape{kSamples, static_cast<std::int64_t>(6 * sizeof(PixelOp))}));
  EXPECT_NE(batch.images.to_vector<std::uint8_t>(), expected.images.to_vector<std::uint8_t>());
  EXPECT_EQ(apply_pixel_ops(batch.images, batch.pixel_ops, false).to_vector<std::uint8_t>(),
            expected.images.to_vector<std::uint8_t>());
  EXPECT_FALSE(loader.next()->pixel_ops.defined());  // an evaluation's

  config.augment = without_pixel_ops(config.augment);
  Loader plain(data.shards(), config, in_turn(requests));
  const Batch undone = *plain.next();
  EXPECT_FALSE(undone.pixel_ops.defined());
  EXPECT_EQ(undone.images.to_vector<std::uint8_t>(), batch.images.to_vector<std::uint8_t>());
}

/// dct_scaling is for training: an evaluation is of the same bits with it and without, a training batch of others.
TEST(data, loader_scales_no_image_of_an_evaluation) {
  const TemporaryFolder folder;
  ShardWriter writer(folder.path().string(), "val", 0, 1, {"ant"});
  for (std::uint64_t id = 0; id < 3; ++id) {
    const Image image = slope_image(200, 170 + 40 * static_cast<std::int64_t>(id), static_cast<std::uint32_t>(id));
    writer.append({encode_jpeg(image, 90), 0, id, image.height, image.width});
  }
  writer.finish();
  writer.publish();
  const ShardSet shards(folder.path().string(), "val");
  for (const std::int64_t resize : {std::int64_t{0}, std::int64_t{20}}) {
    LoaderConfig config = config_of(2, 2);
    config.augment.area = {0.8, 1.0};  // so large that it is scaled
    config.eval.resize = resize;
    std::vector<Bytes> evaluated, trained;
    for (const bool scales : {false, true}) {
      config.augment.dct_scaling = scales;
      Loader loader(shards, config, in_turn({{0, 0, 3, false}, {0, 0, 3, true}}));
      evaluated.push_back(loader.next()->images.to_vector<std::uint8_t>());
      trained.push_back(loader.next()->images.to_vector<std::uint8_t>());
    }
    EXPECT_EQ(evaluated[0], evaluated[1]);
    EXPECT_NE(trained[0], trained[1]);
  }
}

constexpr std::int64_t kBatch = 4;
constexpr std::int64_t kSteps = kSamples / kBatch;

/// A way to deliver an epoch.
struct Delivery {
  const char* what;
  std::int64_t window = 0, repeats = 1;
  bool defers_pixel_ops = false;
};

/// A sample as the network is shown it.
struct Delivered {
  std::int64_t position;
  std::uint64_t id;
  std::uint64_t digest;  // of its normalised values, RandAugment, colour jitter and erasing done
  auto operator<=>(const Delivered&) const = default;
};

/// The samples of a batch after all that comes behind the loader.
void finish(const Batch& batch, std::vector<Delivered>& result) {
  const Tensor images =
      batch.pixel_ops.defined() ? apply_pixel_ops(batch.images, batch.pixel_ops, false) : batch.images;
  const MixSettings settings{
      .normalization = {{0.5, 0.4, 0.3}, {0.2, 0.3, 0.4}}, .classes = 3, .group = 1, .erased = batch.erased};
  const Tensor x = mix_images(images, batch.labels, settings, DType::kFloat32).x;
  const std::size_t size = kHeight * kWidth * 3 * sizeof(float);
  for (std::size_t row = 0; row < batch.ids.size(); ++row) {
    const std::span bytes(static_cast<const std::uint8_t*>(x.raw()) + row * size, size);
    result.push_back({batch.request.first_position + static_cast<std::int64_t>(row), batch.ids[row], digest_of(bytes)});
  }
}

/// All steps of an epoch from `first_step`, by position, as ranks that share global batches and decode on so many
/// threads get them.
std::vector<Delivered> delivered(const DataSet& data, const Delivery& delivery, std::int64_t ranks,
                                 std::int64_t threads, std::uint32_t epoch, std::int64_t first_step) {
  LoaderConfig config = config_of(threads, 2);
  config.erasing = {.probability = 0.5, .fill = EraseFill::kPixel, .count = 2};
  config.augment.rand_augment = {.layers = 2, .probability = 0.8, .magnitude = 9, .magnitude_std = 0.5};
  config.augment.color_jitter = {{0.4, 0, 0.4, 0.1}, 0.8};
  config.window = delivery.window;
  config.repeats = delivery.repeats;
  config.global_batch = kBatch;
  config.defers_pixel_ops = delivery.defers_pixel_ops;
  std::vector<Delivered> result;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    std::vector<BatchRequest> requests;
    for (std::int64_t step = first_step; step < kSteps; ++step) {
      requests.push_back({epoch, step * kBatch + rank * (kBatch / ranks), kBatch / ranks, true});
    }
    Loader loader(data.shards(), config, in_turn(requests));
    while (const auto batch = loader.next()) finish(*batch, result);
  }
  std::sort(result.begin(), result.end());
  return result;
}

TEST(data, loader_follows_the_window_order) {
  const DataSet data;
  LoaderConfig config = config_of(2, 2);
  config.window = 5;
  const auto order = window_order(config.seed, 4, {kFirstShard, kSamples - kFirstShard}, 5);
  Loader loader(data.shards(), config, in_turn({{4, 0, kSamples, true}}));
  const auto batch = loader.next();
  for (std::int64_t p = 0; p < kSamples; ++p) EXPECT_EQ(batch->ids[p], sample_id(order[p]));
}

/// Whole batches of an epoch at positions 0, 1, …; nothing comes more or less often than it is repeated.
void expect_complete(const std::vector<Delivered>& epoch, std::int64_t repeats) {
  std::map<std::uint64_t, std::int64_t> times;
  for (std::size_t position = 0; position < epoch.size(); ++position) {
    EXPECT_EQ(epoch[position].position, static_cast<std::int64_t>(position));
    ++times[epoch[position].id];
  }
  EXPECT_EQ(static_cast<std::int64_t>(times.size()), kSteps * kBatch / repeats);
  for (const auto& [id, count] : times) EXPECT_EQ(count, repeats) << "id " << id;
}

TEST(data, loader_delivers_the_same_on_any_ranks_and_threads) {
  const DataSet data;
  const Delivery deliveries[] = {{.what = "shuffled over all"},
                                 {.what = "by window", .window = 5},
                                 {.what = "repeated", .repeats = 2},
                                 {.what = "by window, repeated", .window = 5, .repeats = 2}};
  for (Delivery delivery : deliveries) {
    for (const std::uint32_t epoch : {0u, 5u}) {
      SCOPED_TRACE(concat(delivery.what, ", epoch ", epoch));
      delivery.defers_pixel_ops = false;
      const std::vector<Delivered> expected = delivered(data, delivery, 1, 1, epoch, 0);
      expect_complete(expected, delivery.repeats);
      for (const bool defers : {false, true}) {
        delivery.defers_pixel_ops = defers;
        for (const std::int64_t ranks : {1, 2, 4}) {
          for (const std::int64_t threads : {1, 3, 8}) {
            EXPECT_EQ(delivered(data, delivery, ranks, threads, epoch, 0), expected)
                << ranks << " ranks, " << threads << " threads" << (defers ? ", pixel operations deferred" : "");
          }
        }
        // Stopped after any step and resumed on other ranks.
        for (std::int64_t step = 1; step <= kSteps; ++step) {
          const std::vector<Delivered> rest(expected.begin() + step * kBatch, expected.end());
          EXPECT_EQ(delivered(data, delivery, 4, 3, epoch, step), rest) << "from step " << step;
        }
      }
    }
  }
}

/// Each part of an epoch's delivery leaves its trace in what the test above compares.
TEST(data, loader_delivers_other_samples_by_other_ways) {
  const DataSet data;
  const auto expected = delivered(data, {.what = ""}, 1, 1, 0, 0);
  EXPECT_NE(delivered(data, {.what = ""}, 1, 1, 5, 0), expected);
  EXPECT_NE(delivered(data, {.what = "", .window = 5}, 1, 1, 0, 0), expected);
  EXPECT_NE(delivered(data, {.what = "", .repeats = 2}, 1, 1, 0, 0), expected);
}

TEST(data, loader_batches_stay_as_they_are) {
  const DataSet data;
  const LoaderConfig config = config_of(2, 2);
  std::vector<Batch> kept;
  {
    Loader loader(data.shards(), config, in_turn(mixed_requests()));
    while (auto batch = loader.next()) kept.push_back(std::move(*batch));
  }
  EXPECT_EQ(kept.size(), mixed_requests().size());
  for (const auto& batch : kept) expect_contents(batch, config);
}

TEST(data, loader_asks_no_further_ahead_than_prefetch) {
  const DataSet data;
  std::int64_t asked = 0;
  Loader loader(data.shards(), config_of(2, 3), [&]() -> std::optional<BatchRequest> {
    return BatchRequest{0, 4 * (asked++ % 5), 4, true};
  });
  EXPECT_EQ(asked, 3);
  for (std::int64_t taken = 1; taken <= 6; ++taken) {
    ASSERT_TRUE(loader.next());
    EXPECT_EQ(asked, taken + 3);
  }
}

TEST(data, loader_names_shard_sample_and_cause_of_a_bad_image) {
  const DataSet data({16, 18});
  Loader loader(data.shards(), config_of(3, 2), in_turn({{0, 10, 4, false}, {0, 14, 6, false}, {0, 20, 3, false}}));
  ASSERT_TRUE(loader.next());
  const std::string text = error_of(loader);
  EXPECT_NE(text.find("train-00001-of-00002.h5"), std::string::npos) << text;
  EXPECT_NE(text.find("sample 2 "), std::string::npos) << text;  // the first of the two, counted within its shard
  EXPECT_NE(text.find("PNG: data end before the image does"), std::string::npos) << text;
  const auto after = loader.next();
  ASSERT_TRUE(after);
  EXPECT_EQ(after->request.first_position, 20);
  EXPECT_FALSE(loader.next());
}

TEST(data, loader_stops_from_any_state) {
  const DataSet data({3});
  for (int round = 0; round < 60; ++round) {
    Loader loader(data.shards(), config_of(1 + round % 4, 1 + round % 5), in_turn(mixed_requests()));
    for (int taken = 0; taken < round % 7; ++taken) {
      try {
        loader.next();
      } catch (const IoError&) {
      }
    }
  }
}

/// Four images that take a while: `image_seconds` each, for reading and transforming one on this thread.
class SlowDataSet {
 public:
  SlowDataSet() {
    ShardWriter writer(folder_.path().string(), "train", 0, 1, {"ant"});
    const Bytes encoded = encode_jpeg(noise_image(kSide, kSide, 1), 95);
    for (std::uint64_t id = 0; id < 3; ++id) writer.append({encoded, 0, id, kSide, kSide});
    writer.append({Bytes(encoded.begin(), encoded.begin() + 2000), 0, 3, kSide, kSide});  // the last is bad
    writer.finish();
    writer.publish();
    shards_.emplace(folder_.path().string(), "train");
    const auto start = std::chrono::steady_clock::now();
    Loader loader(*shards_, config_of(1, 1), in_turn({good(1)}));
    loader.next();
    image_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  const ShardSet& shards() const { return *shards_; }
  double image_seconds() const { return image_seconds_; }
  static BatchRequest good(std::int64_t count) { return {0, 0, count, false}; }
  static BatchRequest bad() { return {0, 3, 1, false}; }

 private:
  static constexpr std::int64_t kSide = 1500;
  TemporaryFolder folder_;
  std::optional<ShardSet> shards_;
  double image_seconds_ = 0;
};

TEST(data, loader_stops_within_the_image_that_each_thread_is_at) {
  const SlowDataSet data;
  constexpr std::int64_t kAhead = 100;
  const std::vector<BatchRequest> good(kAhead, SlowDataSet::good(3));
  std::vector<BatchRequest> bad = good;
  bad.insert(bad.begin(), SlowDataSet::bad());
  struct State {
    const char* what;
    std::vector<BatchRequest> requests;
    int taken;
  };
  const State states[] = {{"nothing taken, all in work", good, 0},
                          {"one batch taken", good, 1},
                          {"after an error", bad, 1},
                          {"all ready or taken, threads asleep", {2, SlowDataSet::good(1)}, 2},
                          {"after the last", {2, SlowDataSet::good(1)}, 3}};
  for (const State& state : states) {
    for (const std::int64_t threads : {1, 2, 5}) {
      SCOPED_TRACE(concat(state.what, ", ", threads, " threads"));
      auto loader = std::make_unique<Loader>(data.shards(), config_of(threads, kAhead), in_turn(state.requests));
      for (int i = 0; i < state.taken; ++i) {
        try {
          loader->next();
        } catch (const IoError&) {
        }
      }
      const auto start = std::chrono::steady_clock::now();
      loader.reset();
      const double stopped = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      // Threads share cores; a loader that did its work first would take kAhead * 3 images.
      EXPECT_LT(stopped, 0.2 + 2 * static_cast<double>(threads) * data.image_seconds());
    }
  }
  EXPECT_GT(data.image_seconds() * 3 * kAhead, 5 * (0.2 + 2 * 5 * data.image_seconds()))
      << "images too quick for this test to tell anything";
}

TEST(data, loader_hands_out_empty_batches) {
  const DataSet data;
  Loader loader(data.shards(), config_of(2, 1), in_turn({{0, kSamples, 0, false}, {0, 0, 2, false}}));
  const auto empty = loader.next();
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->images.count(), 0);
  const auto batch = loader.next();
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->ids.size(), 2u);
}

TEST(data, loader_refuses_what_makes_no_sense) {
  const DataSet data;
  const auto load = [&](LoaderConfig config, BatchRequest request) {
    Loader loader(data.shards(), config, in_turn({request}));
  };
  const BatchRequest request{0, 0, 4, true};
  EXPECT_NO_THROW(load(config_of(1, 1), request));
  EXPECT_THROW(load(config_of(0, 1), request), ConfigError);
  EXPECT_THROW(load(config_of(1, 0), request), ConfigError);
  LoaderConfig flat = config_of(1, 1);
  flat.height = 0;
  EXPECT_THROW(load(flat, request), ConfigError);
  EXPECT_THROW(load(config_of(1, 1), {0, 20, 4, true}), ConfigError);
  EXPECT_THROW(load(config_of(1, 1), {0, -1, 4, true}), ConfigError);
  EXPECT_THROW(load(config_of(1, 1), {0, 0, -1, true}), ConfigError);
}

TEST(data, loader_survives_a_failing_request) {
  const DataSet data;
  int asked = 0;
  Loader loader(data.shards(), config_of(1, 1), [&]() -> std::optional<BatchRequest> {
    if (++asked == 2) throw ConfigError("no second request");
    return BatchRequest{0, 0, 4, false};
  });
  EXPECT_THROW(loader.next(), ConfigError);
  EXPECT_TRUE(loader.next()) << "the finished batch is lost";
}

TEST(data, loader_counts_the_time_it_waits) {
  const DataSet data;
  const auto start = std::chrono::steady_clock::now();
  Loader loader(data.shards(), config_of(1, 1), in_turn({{0, 0, kSamples, true}}));
  EXPECT_EQ(loader.wait_seconds(), 0);
  loader.next();
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_GT(loader.wait_seconds(), 0);
  EXPECT_LT(loader.wait_seconds(), elapsed);
}

}  // namespace
}  // namespace qm
