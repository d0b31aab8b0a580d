// quadmamba bench data: a recipe and shards → what each part of the loader's work costs, and how fast all of it is.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "autograd/ops/pixel_ops.h"
#include "data/sampler.h"
#include "data/shard.h"
#include "kernels/base/allocator.h"
#include "kernels/base/graph.h"
#include "kernels/memory.h"
#include "launch/commands.h"
#include "launch/factory.h"
#include "launch/model_bench.h"

namespace qm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Seconds that a thread spent in each part, and how many images it worked on.
struct Parts {
  double read = 0, decode = 0, resize = 0, augment = 0;
  std::int64_t images = 0;

  double all() const { return read + decode + resize + augment; }
  void add(const Parts& other) {
    read += other.read, decode += other.decode, resize += other.resize, augment += other.augment;
    images += other.images;
  }
};

/// What a benchmark runs over: the samples of the training order, again and again.
class DataBench {
 public:
  DataBench(const ShardSet& shards, const LoaderConfig& config, std::int64_t threads, double seconds)
      : shards_(shards),
        config_(config),
        thread_augment_(config.defers_pixel_ops ? without_pixel_ops(config.augment) : config.augment),
        threads_(threads),
        seconds_(seconds),
        order_(epoch_order(config.seed, 0, shards.size())) {}

  /// The loader's work on all threads, each part timed: of a JPEG no more than the crop is decoded.
  Parts work() const {
    return on_all_threads([this](const AugmentKey& key, std::int64_t sample, Parts& parts, Buffers& buffers) {
      const auto begin = Clock::now();
      shards_.read(sample, buffers.encoded);
      parts.read += seconds_since(begin);

      const auto decoding = Clock::now();
      const ScaledRegion crop = decode(key, buffers.encoded);
      parts.decode += seconds_since(decoding);

      const auto resizing = Clock::now();
      resize_into(view_of(crop.image, {0, 0, crop.image.height, crop.image.width}), crop.box, config_.height,
                  config_.width, config_.augment.interpolation, buffers.pixels.data());
      parts.resize += seconds_since(resizing);

      const auto augmenting = Clock::now();
      augment_pixels(thread_augment_, key, config_.height, config_.width, buffers.pixels.data());
      parts.augment += seconds_since(augmenting);
    });
  }

  /// Reading and decoding whole images, and nothing else.
  Parts decode_whole() const {
    return on_all_threads([this](const AugmentKey&, std::int64_t sample, Parts& parts, Buffers& buffers) {
      const auto begin = Clock::now();
      shards_.read(sample, buffers.encoded);
      decode_image(buffers.encoded);
      parts.decode += seconds_since(begin);
    });
  }

  /// Images a second out of a Loader, as normalised tensors on `device`.
  double loaded(const Recipe& recipe, std::int64_t batch, Device device) const {
    const std::int64_t steps = steps_per_epoch(shards_.size(), batch);
    std::int64_t step = 0;
    Loader loader(shards_, config_, [&]() -> std::optional<BatchRequest> {
      const BatchRequest request{static_cast<std::uint32_t>(step / steps), step % steps * batch, batch, true};
      ++step;
      return request;
    });
    std::int64_t images = 0;
    const auto take = [&] {
      to_tensors(recipe, *loader.next(), device);
      images += batch;
    };
    for (std::int64_t i = 0; i < config_.prefetch; ++i) take();  // what was decoded ahead is no rate
    images = 0;
    const auto start = Clock::now();
    while (seconds_since(start) < seconds_) take();
    synchronize(current_stream(device));
    return static_cast<double>(images) / seconds_since(start);
  }

  /// Seconds that a batch takes on its way to `device` and there.
  struct DeviceParts {
    double copy = 0, augment = 0, all = 0;
  };

  DeviceParts on_device(const Recipe& recipe, std::int64_t batch, Device device) const {
    bool wanted = true;
    Loader loader(shards_, config_, [&]() -> std::optional<BatchRequest> {
      return std::exchange(wanted, false) ? std::optional(BatchRequest{0, 0, batch, true}) : std::nullopt;
    });
    const Batch loaded = *loader.next();
    const Tensor there = loaded.images.to(device);
    const Stream copies = copy_stream(device);
    DeviceParts parts;
    parts.copy = each(copies, [&] { copy_ahead(copies, there.raw(), loaded.images.raw(), there.bytes()); });
    if (loaded.pixel_ops.defined()) {
      const Tensor ops = loaded.pixel_ops.to(device);
      const bool blurs = may_blur(config_.augment.rand_augment);
      parts.augment = each(there.stream(), [&] { apply_pixel_ops(there, ops, blurs); });
    }
    parts.all = each(there.stream(), [&] { to_tensors(recipe, loaded, device); });
    return parts;
  }

 private:
  struct Buffers {
    std::vector<std::uint8_t> encoded, pixels;
  };

  /// What a training step makes of a batch: normalised tensors on the device.
  void to_tensors(const Recipe& recipe, const Batch& loaded, Device device) const {
    const auto there = [&](const Tensor& tensor) { return tensor.defined() ? tensor.to(device) : Tensor(); };
    const MixSettings settings{.normalization = normalization(recipe),
                               .classes = static_cast<std::int64_t>(shards_.class_names().size()),
                               .erased = there(loaded.erased)};
    Tensor images = loaded.images.to(device);
    if (loaded.pixel_ops.defined()) {
      images = apply_pixel_ops(images, there(loaded.pixel_ops), may_blur(config_.augment.rand_augment));
    }
    mix_images(images, loaded.labels.to(device), settings, DType::kFloat32);
  }

  /// Seconds of one call of many, queued one after another on `stream`.
  template <class Body>
  static double each(const Stream& stream, const Body& body) {
    constexpr int kCalls = 20;
    body();  // memory is there from here on
    synchronize(stream);
    const auto start = Clock::now();
    for (int i = 0; i < kCalls; ++i) body();
    synchronize(stream);
    return seconds_since(start) / kCalls;
  }

  ScaledRegion decode(const AugmentKey& key, std::span<const std::uint8_t> encoded) const {
    if (config_.augment.crop == CropMode::kResized) {
      return decode_crop(encoded, config_.augment, key, config_.height, config_.width);
    }
    Image image = decode_image(encoded);
    const RealBox box{0, 0, static_cast<double>(image.height), static_cast<double>(image.width)};
    return {std::move(image), box};
  }

  template <class Body>
  Parts on_all_threads(const Body& body) const {
    std::vector<Parts> parts(static_cast<std::size_t>(threads_));
    std::atomic<std::int64_t> next = 0;
    std::atomic<bool> failed = false;
    std::mutex mutex;
    std::exception_ptr failure;  // the first: an exception must not leave a thread
    const auto end = Clock::now() + std::chrono::duration<double>(seconds_);
    {
      std::vector<std::jthread> workers;
      for (Parts& own : parts) {
        workers.emplace_back([&] {
          try {
            Buffers buffers;
            buffers.pixels.resize(static_cast<std::size_t>(config_.height * config_.width * 3));
            while (!failed && Clock::now() < end) {
              const std::int64_t at = next++;
              const AugmentKey key{config_.seed, static_cast<std::uint32_t>(at / shards_.size()),
                                   static_cast<std::uint32_t>(at % shards_.size())};
              body(key, order_[key.position], own, buffers);
              ++own.images;
            }
          } catch (...) {
            const std::lock_guard lock(mutex);
            if (!failed.exchange(true)) failure = std::current_exception();
          }
        });
      }
    }
    if (failure) std::rethrow_exception(failure);
    Parts sum;
    for (const Parts& own : parts) sum.add(own);
    return sum;
  }

  const ShardSet& shards_;
  const LoaderConfig& config_;
  AugmentConfig thread_augment_;
  std::int64_t threads_;
  double seconds_;
  std::vector<std::uint32_t> order_;
};

void print_row(const char* what, double seconds, std::int64_t images, std::int64_t threads) {
  const double each = seconds / static_cast<double>(images);
  std::printf("%-24s %10.3f %14.0f %14.0f\n", what, 1e3 * each, 1 / each, static_cast<double>(threads) / each);
}

void print_device_row(const std::string& what, double seconds, std::int64_t batch) {
  const double each = seconds / static_cast<double>(batch);
  std::printf("%-24s %10.4f %14s %14.0f\n", what.c_str(), 1e3 * each, "", 1 / each);
}

}  // namespace

int run_bench(std::span<const std::string> arguments, const Environment& environment) {
  std::string what, recipe_file, data, split = "train", device = "auto";
  std::int64_t threads = std::max(1u, std::thread::hardware_concurrency()), seconds = 5, batch = 128, steps = 20;
  bool json = false;
  std::vector<std::string> overrides;
  CommandLine line("bench",
                   "train, infer: how fast a recipe's network trains and infers on random images that lie on the device\n"
                   "already, eagerly and as a graph, and where the time goes.\n"
                   "ops: the operations of such a training step, for each shape the time of a call.\n"
                   "data: how fast its training images are read, decoded, resized, augmented and copied: each part by\n"
                   "itself, decoding alone, and all of it through the loader to normalised tensors.");
  line.positional("WHAT", what, "train, infer, ops or data");
  line.positional("RECIPE", recipe_file, "a TOML file; see recipes/");
  line.option("data", "DIR", data, "of data: folder with the shards");
  line.option("split", "NAME", split, "which shards");
  line.option("threads", "N", threads, {1, 1024}, "that decode");
  line.option("seconds", "N", seconds, {1, 3600}, "a measurement takes; there are three");
  line.option("batch", "N", batch, {1, 65536}, "of data: images handed out at once");
  line.option("steps", "N", steps, {2, 100000}, "of train, infer and ops: steps that are timed");
  line.flag("json", json, "of train, infer and ops: JSON instead of tables");
  line.choice("device", {"auto", "cpu", "cuda"}, device, "where to compute, or the tensors are wanted");
  line.assignments("set", overrides, "replace a key of the recipe, such as augment.rand_augment=''");
  if (!line.parse(arguments)) return 0;
  QM_CHECK(what == "train" || what == "infer" || what == "ops" || what == "data", UsageError,
           "bench: expected train, infer, ops or data, got '", what, "'");

  Recipe recipe = Recipe::load(recipe_file, overrides);
  if (what != "data") {
    const ModelBenchOptions options{choose_device(device, recipe.precision, environment), steps, json};
    if (what == "infer") {
      bench_inference(recipe, options);
    } else {
      const auto communicator = environment.make_communicator(options.device);
      (what == "ops" ? bench_operations : bench_training)(recipe, options, *communicator);
    }
    return 0;
  }
  QM_CHECK(!data.empty(), UsageError, "bench data: missing --data DIR");
  QM_CHECK(!json, UsageError, "bench data: --json is of train, infer and ops");
  recipe.data.threads = threads;
  const Device where = choose_device(device, Precision::kFp32, environment);
  LoaderConfig config = loader_config(recipe);
  config.defers_pixel_ops = where.type == DeviceType::kCuda;  // as the trainer has it
  if (config.defers_pixel_ops) pin_host_memory();
  const auto opening = Clock::now();
  const ShardSet shards(data, split);
  QM_CHECK(batch <= shards.size(), ConfigError, "bench data: --batch ", batch, ": ", data, " holds ", shards.size(),
           " images of split '", split, "'");
  std::printf("%s: %lld images, opened in %.2f s; %s, %lld threads\n", data.c_str(),
              static_cast<long long>(shards.size()), seconds_since(opening), recipe.name.c_str(),
              static_cast<long long>(threads));
  const DataBench bench(shards, config, threads, static_cast<double>(seconds));
  const Parts parts = bench.work();
  const Parts whole = bench.decode_whole();
  std::printf("%-24s %10s %14s %14s\n", "", "ms/image", "images/s/core", "images/s");
  print_row("read", parts.read, parts.images, threads);
  print_row("decode the crop", parts.decode, parts.images, threads);
  print_row("resize", parts.resize, parts.images, threads);
  print_row(config.defers_pixel_ops ? "flip" : "augment", parts.augment, parts.images, threads);
  print_row("all of these", parts.all(), parts.images, threads);
  print_row("read and decode whole", whole.decode, whole.images, threads);
  if (where.type == DeviceType::kCuda) {
    const DataBench::DeviceParts there = bench.on_device(recipe, batch, where);
    print_device_row("copy to " + where.name(), there.copy, batch);
    if (there.augment > 0) print_device_row("RandAugment there", there.augment, batch);
    print_device_row("all of it there", there.all, batch);
  }
  const double rate = bench.loaded(recipe, batch, where);
  const double decoding = static_cast<double>(threads * whole.images) / whole.decode;
  std::printf("loader, to tensors on %s: %.0f images/s, %.0f %% of decoding whole images alone\n", where.name().c_str(),
              rate, 100 * rate / decoding);
  return 0;
}

}  // namespace qm
