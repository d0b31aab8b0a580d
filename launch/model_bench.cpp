#include "launch/model_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/base/allocator.h"
#include "kernels/base/graph.h"
#include "kernels/base/philox.h"
#include "kernels/base/profile.h"
#include "kernels/linear.h"
#include "kernels/memory.h"
#include "launch/train_step.h"

namespace qm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kWarmup = 5;

// ---- what is measured ------------------------------------------------------------------------------------------------

struct Timing {
  double median = 0, fastest = 0, slowest = 0;  ///< seconds
};

Timing timing_of(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front(), seconds.back()};
}

/// Each call alone, from an idle device to an idle device: what is queued while another still runs costs nothing extra, so a
/// run of calls is timed as a whole and divided.
template <class Call>
Timing time_calls(const Stream& stream, std::int64_t rounds, Call call) {
  constexpr int kCallsARound = 2;
  std::vector<double> seconds;
  for (std::int64_t round = 0; round < rounds; ++round) {
    synchronize(stream);
    const auto start = Clock::now();
    for (int i = 0; i < kCallsARound; ++i) call();
    synchronize(stream);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count() / kCallsARound);
  }
  return timing_of(seconds);
}

/// What this device reaches in a large copy (bytes read and written a second) and a large product in the recipe's
/// precision (operations a second).
struct Ceilings {
  double copy = 0, product = 0;
};

Ceilings measure_ceilings(Device device, DType dtype) {
  const bool gpu = device.type == DeviceType::kCuda;
  const Tensor from = Tensor::zeros({gpu ? std::int64_t{1} << 30 : std::int64_t{1} << 26}, DType::kUInt8, device);
  const Tensor to = Tensor::empty(from.shape(), DType::kUInt8, device);
  const Stream stream = to.stream();
  to.copy_from(from);
  const double copy = time_calls(stream, 10, [&] { to.copy_from(from); }).median;

  const std::int64_t n = gpu ? 8192 : 512;
  std::vector<float> random(static_cast<std::size_t>(n * n));
  for (std::size_t i = 0; i < random.size(); ++i) {
    random[i] = uniform_open(philox(1, RandomPurpose::kSynthetic, 0, 0, static_cast<std::uint32_t>(i)).word[0]) - 0.5f;
  }
  const Tensor a = Tensor::from(random, {n, n}).to(device).to(dtype), b = a.clone();
  const Tensor c = Tensor::empty({n, n}, dtype, device);
  const auto multiply = [&] {
    visit_activation(dtype, "bench", [&]<class T>() {
      linear_forward<T>(stream, {.rows = n, .in = n, .out = n, .x = a.data<T>(), .weight = b.data<T>(),
                                 .bias = nullptr, .y = c.data<T>()});
    });
  };
  multiply();
  const double product = time_calls(stream, 5, multiply).median;
  return {2.0 * static_cast<double>(from.bytes()) / copy, 2.0 * static_cast<double>(n * n) * static_cast<double>(n) / product};
}

Tensor random_images(std::int64_t count, const Recipe& recipe) {
  const Tensor images = Tensor::empty({count, recipe.model.height, recipe.model.width, 3}, DType::kUInt8);
  auto* values = images.data<std::uint8_t>();
  for (std::int64_t i = 0; i < images.count(); ++i) {
    values[i] = static_cast<std::uint8_t>(
        philox(recipe.seed, RandomPurpose::kSynthetic, 1, static_cast<std::uint32_t>(i >> 32), static_cast<std::uint32_t>(i))
            .word[0] >> 24);
  }
  return images;
}

Batch random_batch(const Recipe& recipe, const Share& share) {
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < share.count; ++i) {
    labels.push_back(static_cast<std::int32_t>((share.first + i) * 7919 % recipe.model.classes));
  }
  Batch batch;
  batch.request = {0, share.first, share.count, true};
  batch.images = random_images(share.count, recipe);
  batch.labels = Tensor::from(labels, {share.count});
  return batch;
}

// ---- reports ---------------------------------------------------------------------------------------------------------

void print_timing(const char* what, const Timing& timing, std::int64_t images) {
  std::printf("%-8s %9.1f img/s   %8.3f ms (fastest %.3f, slowest %.3f)\n", what,
              static_cast<double>(images) / timing.median, 1e3 * timing.median, 1e3 * timing.fastest,
              1e3 * timing.slowest);
}

/// Time by operation over `calls` steps, slowest first.
void print_operations(std::vector<OpTime> times, std::int64_t steps, double step_seconds, const Ceilings& ceilings) {
  std::sort(times.begin(), times.end(), [](const OpTime& a, const OpTime& b) { return a.seconds > b.seconds; });
  double sum = 0;
  for (const OpTime& time : times) sum += time.seconds / static_cast<double>(steps);
  std::printf("\n%-32s %6s %9s %6s %9s %7s %6s %8s %6s\n", "operation, eagerly", "calls", "ms", "share", "MB", "GB/s",
              "copy", "TFLOP/s", "rate");
  for (const OpTime& time : times) {
    const double n = static_cast<double>(steps), seconds = time.seconds / n;
    const double bytes = time.cost.bytes / n, flops = time.cost.flops / n;
    std::printf("%-32s %6lld %9.3f %5.1f%% %9.1f %7.0f %5.0f%% %8.1f %5.0f%%\n", time.name.c_str(),
                static_cast<long long>(time.calls / steps), 1e3 * seconds, 100 * seconds / sum, 1e-6 * bytes,
                1e-9 * bytes / seconds, 100 * bytes / seconds / ceilings.copy, 1e-12 * flops / seconds,
                100 * flops / seconds / ceilings.product);
  }
  std::printf("%-32s %6s %9.3f = %.0f %% of the eager step of %.3f ms\n", "all operations", "", 1e3 * sum,
              100 * sum / step_seconds, 1e3 * step_seconds);
  std::printf("copy bandwidth %.0f GB/s, matrix rate %.0f TFLOP/s, measured in this run\n", 1e-9 * ceilings.copy,
              1e-12 * ceilings.product);
}

double mebibytes(Device device) { return static_cast<double>(allocator_for(device).stats().peak) / (1 << 20); }

}  // namespace

// ---- training --------------------------------------------------------------------------------------------------------

namespace {

/// Steps of a fresh network as the trainer runs them; `losses` gets those of the first and the last, `profile` begins
/// after the warm-up.
Timing run_training(const Recipe& given, const ModelBenchOptions& options, Communicator& communicator, bool graph,
                    std::vector<double>* losses, Profile* profile) {
  Recipe recipe = given;
  recipe.train.graph = graph;
  Network network(recipe, options.device);
  TrainStep step(recipe, network, communicator);
  const Stream stream = step.loss().stream();
  for (const Share& share : step.micro_batches()) step.put(random_batch(recipe, share));
  std::int64_t number = 0;
  const auto next = [&] { step.run(number++, 0, recipe.peak_learning_rate()); };
  const auto note_loss = [&] {
    if (losses) losses->push_back(step.loss().to(DType::kFloat64).to_vector<double>().at(0));
  };
  for (std::int64_t i = 0; i < kWarmup; ++i) {
    next();
    note_loss();
  }
  if (profile) profile->reset();
  const Timing timing = time_calls(stream, options.steps / 2, next);
  note_loss();
  return timing;
}

}  // namespace

void bench_training(const Recipe& recipe, const ModelBenchOptions& options, Communicator& communicator) {
  const auto run = [&](bool graph, std::vector<double>* losses, Profile* profile) {
    return run_training(recipe, options, communicator, graph, losses, profile);
  };
  allocator_for(options.device).reset_peak();
  std::vector<double> eager_losses, graph_losses;
  const Timing eager = run(false, &eager_losses, nullptr);
  const double memory = mebibytes(options.device);
  const bool gpu = options.device.type == DeviceType::kCuda;
  const std::optional<Timing> graph = gpu ? std::optional(run(true, &graph_losses, nullptr)) : std::nullopt;
  const std::int64_t images = recipe.train.global_batch;
  if (options.json) {
    std::printf("{\"recipe\": \"%s\", \"batch\": %lld, \"eager_ms\": %.4f, \"graph_ms\": %.4f, \"peak_mib\": %.1f}\n",
                recipe.name.c_str(), static_cast<long long>(images), 1e3 * eager.median,
                graph ? 1e3 * graph->median : 0.0, memory);
    return;
  }
  std::printf("train %s, batch %lld, %s on %s, %d ranks, peak memory %.0f MiB\n", recipe.name.c_str(),
              static_cast<long long>(images), std::string(to_string(recipe.precision)).c_str(),
              options.device.name().c_str(), communicator.size(), memory);
  print_timing("eager", eager, images);
  if (graph) {
    print_timing("graph", *graph, images);
    std::printf("losses eager and as a graph %s:", eager_losses == graph_losses ? "agree to the bit" : "DIFFER");
    for (const double loss : graph_losses) std::printf(" %.6f", loss);
    std::printf("\n");
  }
  const Ceilings ceilings = measure_ceilings(options.device, activation_dtype(recipe));  // not part of the profile
  Profile profile;
  run(false, nullptr, &profile);
  print_operations(profile.times(), options.steps / 2 * 2, eager.median, ceilings);
}

// ---- operations -----------------------------------------------------------------------------------------------------

namespace {

/// Calls of one operation on one shape, which its cost tells.
struct ShapeTimes {
  std::string name;
  OpCost cost;
  std::vector<double> seconds;
};

std::vector<ShapeTimes> by_shape(const std::vector<OpCall>& calls) {
  std::map<std::tuple<std::string, double, double>, ShapeTimes> shapes;
  for (const OpCall& call : calls) {
    ShapeTimes& shape = shapes[{call.name, call.cost.bytes, call.cost.flops}];
    shape.name = call.name;
    shape.cost = call.cost;
    shape.seconds.push_back(call.seconds);
  }
  std::vector<ShapeTimes> list;
  for (auto& [key, shape] : shapes) list.push_back(std::move(shape));
  return list;
}

}  // namespace

void bench_operations(const Recipe& recipe, const ModelBenchOptions& options, Communicator& communicator) {
  const Ceilings ceilings = measure_ceilings(options.device, activation_dtype(recipe));
  Profile profile;
  run_training(recipe, options, communicator, false, nullptr, &profile);
  const double steps = static_cast<double>(options.steps / 2 * 2);
  std::vector<ShapeTimes> shapes = by_shape(profile.calls());
  const auto total = [](const ShapeTimes& shape) {
    return timing_of(shape.seconds).median * static_cast<double>(shape.seconds.size());
  };
  std::sort(shapes.begin(), shapes.end(),
            [&](const ShapeTimes& a, const ShapeTimes& b) { return total(a) > total(b); });
  if (!options.json) {
    std::printf("operations of a training step of %s, batch %lld, %s on %s\n", recipe.name.c_str(),
                static_cast<long long>(recipe.train.global_batch),
                std::string(to_string(recipe.precision)).c_str(), options.device.name().c_str());
    std::printf("%-32s %6s %9s %9s %9s %7s %6s %8s %6s\n", "operation, a row a shape", "calls", "us a call", "fastest",
                "MB", "GB/s", "copy", "TFLOP/s", "rate");
  }
  const char* separator = "[";
  for (const ShapeTimes& shape : shapes) {
    const Timing timing = timing_of(shape.seconds);
    const double calls = static_cast<double>(shape.seconds.size()) / steps, bytes = shape.cost.bytes;
    const double bandwidth = bytes / timing.median, rate = shape.cost.flops / timing.median;
    if (options.json) {
      std::printf("%s{\"op\": \"%s\", \"calls\": %.1f, \"us\": %.3f, \"bytes\": %.0f, \"flops\": %.0f}", separator,
                  shape.name.c_str(), calls, 1e6 * timing.median, bytes, shape.cost.flops);
      separator = ",\n ";
      continue;
    }
    std::printf("%-32s %6.0f %9.1f %9.1f %9.1f %7.0f %5.0f%% %8.1f %5.0f%%\n", shape.name.c_str(), calls,
                1e6 * timing.median, 1e6 * timing.fastest, 1e-6 * bytes, 1e-9 * bandwidth,
                100 * bandwidth / ceilings.copy, 1e-12 * rate, 100 * rate / ceilings.product);
  }
  if (options.json) {
    std::printf("]\n");
  } else {
    std::printf("copy bandwidth %.0f GB/s, matrix rate %.0f TFLOP/s, measured in this run\n", 1e-9 * ceilings.copy,
                1e-12 * ceilings.product);
  }
}

// ---- inference -------------------------------------------------------------------------------------------------------

void bench_inference(const Recipe& recipe, const ModelBenchOptions& options) {
  const Network network(recipe, options.device);
  const std::int64_t batch = recipe.eval.batch > 0 ? recipe.eval.batch : recipe.train.global_batch;
  const Tensor images = random_images(batch, recipe).to(options.device);
  allocator_for(options.device).reset_peak();
  Tensor logits;
  const auto forward = [&] {
    logits = (*network.model)(normalize_images(images, normalization(recipe), network.parameters.activations()),
                              ForwardContext{});
  };
  const Stream stream = images.stream();
  for (std::int64_t i = 0; i < kWarmup; ++i) forward();
  const Timing eager = time_calls(stream, options.steps, forward);
  const double memory = mebibytes(options.device);
  std::optional<Timing> replayed;
  if (options.device.type == DeviceType::kCuda) {
    const Graph graph(stream, forward);
    graph.launch();
    replayed = time_calls(stream, options.steps, [&] { graph.launch(); });
  }
  if (options.json) {
    std::printf("{\"recipe\": \"%s\", \"batch\": %lld, \"eager_ms\": %.4f, \"graph_ms\": %.4f, \"peak_mib\": %.1f}\n",
                recipe.name.c_str(), static_cast<long long>(batch), 1e3 * eager.median,
                replayed ? 1e3 * replayed->median : 0.0, memory);
    return;
  }
  std::printf("infer %s, batch %lld, %s on %s, peak memory %.0f MiB\n", recipe.name.c_str(),
              static_cast<long long>(batch), std::string(to_string(recipe.precision)).c_str(),
              options.device.name().c_str(), memory);
  print_timing("eager", eager, batch);
  if (replayed) print_timing("graph", *replayed, batch);
  const Ceilings ceilings = measure_ceilings(options.device, activation_dtype(recipe));
  Profile profile;
  for (std::int64_t i = 0; i < options.steps; ++i) forward();
  print_operations(profile.times(), options.steps, eager.median, ceilings);
}

}  // namespace qm
