// The dense and element-wise ops on a GPU against the CPU: outputs and every gradient, over awkward sizes. (The scans:
// cuda_scan_parity_test.cpp.)
//
// The GPU computes in float and is compared with the CPU in double, since it adds in another order than the CPU does in
// float. It computes twice: the bits must be the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "autograd/ops/bias_gelu.h"
#include "autograd/ops/classification_metrics.h"
#include "autograd/ops/conv2d.h"
#include "autograd/ops/depthwise_conv_silu.h"
#include "autograd/ops/global_avg_pool.h"
#include "autograd/ops/gumbel_softmax.h"
#include "autograd/ops/image_mix.h"
#include "autograd/ops/layer_norm.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/mlp.h"
#include "autograd/ops/residual_norm.h"
#include "autograd/ops/score_pool.h"
#include "autograd/ops/soft_cross_entropy.h"
#include "autograd/optim/adamw.h"
#include "autograd/tape.h"
#include "kernels/memory.h"
#include "tests/support/gpu.h"
#include "tests/support/tensors.h"

namespace qm::test {
namespace {

// ---- running an op somewhere -----------------------------------------------------------------------------------------

/// ‖error‖ / ‖reference‖ that sums of a few thousand floats may have.
constexpr double kLimit = 1e-5;

using Tensors = std::vector<Tensor>;
/// An op on tensors that are all on one device, float64 or float32, or int32.
using Op = std::function<Tensors(const Tensors& inputs)>;

struct Result {
  std::string name;
  std::vector<double> values;
};
using Results = std::vector<Result>;

bool is_integer(const Tensor& tensor) { return tensor.dtype() == DType::kInt32; }

/// The op's outputs, and the gradients of all real inputs given one of every real output in `from`. Gradients start at
/// the input's own values, so that adding to them is told from overwriting them.
Results run(const Op& op, const Tensors& inputs, const std::vector<std::size_t>& from, DType dtype, Device device) {
  Tensors leaves;
  for (const Tensor& input : inputs) {
    Tensor leaf = (is_integer(input) ? input : input.to(dtype)).to(device);
    if (!is_integer(input)) {
      leaf = leaf.clone();
      leaf.set_requires_grad();
      leaf.set_grad(leaf.clone());
    }
    leaves.push_back(leaf);
  }
  Tape tape;
  Tensors outputs;
  {
    Tape::Recording recording(tape);
    outputs = op(leaves);
  }
  Results results;
  for (std::size_t i = 0; i < outputs.size(); ++i) results.push_back({concat("output ", i), doubles_of(outputs[i])});
  Tensors roots, grads;
  for (const std::size_t i : from) {
    roots.push_back(outputs.at(i));
    grads.push_back(random_tensor(outputs[i].shape(), 1000 + i).to(dtype).to(device));
  }
  if (roots.empty()) return results;
  tape.backward(roots, grads);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!is_integer(leaves[i])) results.push_back({concat("gradient ", i), doubles_of(leaves[i].grad())});
  }
  return results;
}

double norm_of(const std::vector<double>& values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

void expect_close(const std::string& what, const Results& actual, const Results& reference) {
  ASSERT_EQ(actual.size(), reference.size()) << what;
  for (std::size_t r = 0; r < actual.size(); ++r) {
    ASSERT_EQ(actual[r].values.size(), reference[r].values.size()) << what << ": " << actual[r].name;
    std::vector<double> error = actual[r].values;
    for (std::size_t i = 0; i < error.size(); ++i) error[i] -= reference[r].values[i];
    EXPECT_LE(norm_of(error), kLimit * norm_of(reference[r].values)) << what << ": " << actual[r].name;
  }
}

void expect_same_bits(const std::string& what, const Results& first, const Results& second) {
  for (std::size_t r = 0; r < first.size(); ++r) {
    EXPECT_EQ(first[r].values, second[r].values) << what << ": " << first[r].name << " differs between two runs";
  }
}

/// Judges an op, differentiated from the outputs in `from`.
void expect_parity(const std::string& what, const Op& op, const Tensors& inputs,
                   const std::vector<std::size_t>& from = {0}) {
  const Results reference = run(op, inputs, from, DType::kFloat64, Device{});
  const Results gpu = run(op, inputs, from, DType::kFloat32, kGpu);
  expect_close(what, gpu, reference);
  expect_same_bits(what, gpu, run(op, inputs, from, DType::kFloat32, kGpu));
}

/// A step record on both devices, kept while backward may read it.
class NoiseRecord {
 public:
  const StepRecord* on(Device device) const {
    return static_cast<const StepRecord*>((device == kGpu ? gpu_ : cpu_).raw());
  }

 private:
  static constexpr StepRecord kRecord{.seed = 5, .step = 3, .first_position = 2};
  Tensor cpu_ = record_tensor(kRecord, Device{}), gpu_ = record_tensor(kRecord, kGpu);
};

/// Rows and channels: few, and around warps, blocks and the chunks of a two-stage sum. At least two channels: LayerNorm
/// of one has no variance, and multiplies rounding errors by 1/√ε = 316.
const std::vector<std::array<std::int64_t, 2>> kMatrices{
    {1, 2}, {1, 33}, {3, 2}, {7, 31}, {8, 32}, {65, 96}, {512, 5}, {513, 40}, {1000, 130}, {33000, 3}, {9, 1536},
    {700, 24}, {300, 64}, {65, 128}, {70, 192}, {31, 256}, {35, 384}, {20, 512}, {15, 768}, {9, 1024}};

// ---- products, convolutions ------------------------------------------------------------------------------------------

TEST(gpu, parity_linear) {
  QM_NEEDS_GPU();
  const std::vector<std::array<std::int64_t, 3>> sizes{{1, 1, 1},    {1, 5, 3},    {2, 1, 4},    {7, 3, 2},
                                                       {100, 33, 65}, {513, 96, 192}, {1200, 48, 2}, {64, 192, 7},
                                                       {33, 384, 96}};
  for (const auto [rows, in, out] : sizes) {
    const Tensor x = random_tensor({rows, in}, 1), weight = random_tensor({out, in}, 2), bias = random_tensor({out}, 3);
    const std::string what = concat("linear ", rows, " x ", in, " to ", out);
    expect_parity(what + ", bias", [](const Tensors& t) { return Tensors{linear(t[0], t[1], t[2])}; },
                  {x, weight, bias});
    expect_parity(what, [](const Tensors& t) { return Tensors{linear(t[0], t[1], Tensor())}; }, {x, weight});
  }
}

TEST(gpu, parity_mlp) {
  QM_NEEDS_GPU();
  const std::vector<std::array<std::int64_t, 4>> sizes{
      {1, 1, 1, 1}, {3, 5, 7, 2}, {100, 33, 65, 9}, {513, 24, 96, 24}, {70, 192, 96, 48}};
  for (const auto [rows, in, hidden, out] : sizes) {
    expect_parity(concat("mlp ", rows, " x ", in, " to ", hidden, " to ", out),
                  [](const Tensors& t) { return Tensors{mlp(t[0], {{t[1], t[2]}, {t[3], t[4]}})}; },
                  {random_tensor({rows, in}, 1), random_tensor({hidden, in}, 2), random_tensor({hidden}, 3),
                   random_tensor({out, hidden}, 4), random_tensor({out}, 5)});
  }
}

TEST(gpu, parity_conv2d) {
  QM_NEEDS_GPU();
  // batch, height, width, in, out, stride
  const std::vector<std::array<std::int64_t, 6>> sizes{{1, 1, 1, 1, 1, 1},    {2, 5, 7, 3, 8, 2},  {1, 8, 9, 4, 6, 1},
                                                       {3, 33, 31, 3, 24, 2}, {2, 16, 16, 24, 48, 2},
                                                       {2, 14, 10, 48, 96, 2}, {1, 6, 5, 130, 8, 2}};
  for (const auto [batch, height, width, in, out, stride] : sizes) {
    const Tensor x = random_tensor({batch, height, width, in}, 1), weight = random_tensor({out, in, 3, 3}, 2);
    const auto with_bias = [s = stride](const Tensors& t) { return Tensors{conv2d(t[0], t[1], t[2], s)}; };
    const auto without = [s = stride](const Tensors& t) { return Tensors{conv2d(t[0], t[1], Tensor(), s)}; };
    const std::string what =
        concat("conv2d ", batch, " x ", height, "x", width, ", ", in, " to ", out, ", stride ", stride);
    expect_parity(what + ", bias", with_bias, {x, weight, random_tensor({out}, 3)});
    expect_parity(what, without, {x, weight});
  }
}

TEST(gpu, parity_depthwise_conv_silu) {
  QM_NEEDS_GPU();
  // batch, height, width, channels, out_height, out_width
  const std::vector<std::array<std::int64_t, 6>> sizes{{1, 1, 1, 1, 1, 1},     {1, 1, 1, 2, 4, 4},
                                                       {2, 3, 5, 3, 4, 8},     {1, 7, 7, 33, 8, 8},
                                                       {2, 16, 17, 40, 16, 20}, {1, 56, 55, 64, 56, 56}};
  for (const auto [batch, height, width, channels, out_height, out_width] : sizes) {
    expect_parity(
        concat("depthwise_conv_silu ", batch, " x ", height, "x", width, " x ", channels),
        [h = out_height, w = out_width](const Tensors& t) {
          return Tensors{depthwise_conv_silu(t[0], t[1], h, w)};
        },
        {random_tensor({batch, height, width, channels}, 1, -2, 2), random_tensor({channels, 1, 3, 3}, 2)});
  }
}

// ---- norms, activations, pooling -------------------------------------------------------------------------------------

TEST(gpu, parity_bias_gelu) {
  QM_NEEDS_GPU();
  for (const auto [rows, channels] : kMatrices) {
    const Tensor x = random_tensor({rows, channels}, 1, -4, 4);
    const std::string what = concat("bias_gelu ", rows, " x ", channels);
    expect_parity(what + ", bias", [](const Tensors& t) { return Tensors{bias_gelu(t[0], t[1])}; },
                  {x, random_tensor({channels}, 2)});
    expect_parity(what, [](const Tensors& t) { return Tensors{bias_gelu(t[0], Tensor())}; }, {x});
  }
}

TEST(gpu, parity_layer_norm) {
  QM_NEEDS_GPU();
  for (const auto [rows, channels] : kMatrices) {
    expect_parity(concat("layer_norm ", rows, " x ", channels),
                  [](const Tensors& t) { return Tensors{layer_norm(t[0], t[1], t[2])}; },
                  {random_tensor({rows, channels}, 1, -1, 3), random_tensor({channels}, 2, 0.5, 2),
                   random_tensor({channels}, 3)});
    expect_parity(concat("layer_norm twice ", rows, " x ", channels),
                  [](const Tensors& t) {
                    const Tensor y = bias_gelu(t[0], t[2]);
                    return Tensors{layer_norm(y, t[1], t[2]), layer_norm(y, t[3], t[2])};
                  },
                  {random_tensor({rows, channels}, 1, -1, 3), random_tensor({channels}, 2, 0.5, 2),
                   random_tensor({channels}, 3), random_tensor({channels}, 4, 0.5, 2)},
                  {0, 1});
  }
}

TEST(gpu, parity_residual_norm) {
  QM_NEEDS_GPU();
  const NoiseRecord record;
  for (const float rate : {0.0f, 0.4f}) {
    for (const auto [rows, channels] : kMatrices) {
      const std::int64_t batch = rows % 5 == 0 ? 5 : 1;
      const auto add = [&](const Tensors& t, bool normalizes) {
        const DropPathSite site{record.on(t[0].device()), 7, rate};
        const ResidualNorm sum = residual_norm(t[0], t[1], site, normalizes ? t[2] : Tensor(),
                                               normalizes ? t[3] : Tensor());
        return normalizes ? Tensors{sum.stream, sum.y} : Tensors{sum.stream};
      };
      const Tensor stream = random_tensor({batch, rows / batch, channels}, 1);
      const Tensor branch = random_tensor({batch, rows / batch, channels}, 2);
      const Tensor weight = random_tensor({channels}, 3, 0.5, 2), bias = random_tensor({channels}, 4);
      const std::string what = concat("residual_norm ", rows, " x ", channels, ", rate ", rate);
      const auto with_norm = [&](const Tensors& t) { return add(t, true); };
      expect_parity(what + ", from both", with_norm, {stream, branch, weight, bias}, {0, 1});
      expect_parity(what + ", from y", with_norm, {stream, branch, weight, bias}, {1});
      expect_parity(what + ", from the stream", with_norm, {stream, branch, weight, bias}, {0});
      expect_parity(what + ", no norm", [&](const Tensors& t) { return add(t, false); }, {stream, branch});
    }
  }
}

TEST(gpu, parity_global_avg_pool) {
  QM_NEEDS_GPU();
  for (const auto [batch, length, channels] :
       std::vector<std::array<std::int64_t, 3>>{{1, 1, 1}, {3, 49, 70}, {2, 7, 1536}, {5, 300, 33}}) {
    expect_parity(concat("global_avg_pool ", batch, " x ", length, " x ", channels),
                  [](const Tensors& t) { return Tensors{global_avg_pool(t[0])}; },
                  {random_tensor({batch, length, channels}, 1)});
  }
}

// ---- quadrants -------------------------------------------------------------------------------------------------------

TEST(gpu, parity_score_pool) {
  QM_NEEDS_GPU();
  for (const auto [batch, height, width] :
       std::vector<std::array<std::int64_t, 3>>{{1, 2, 2}, {3, 4, 6}, {2, 28, 56}, {1, 64, 60}}) {
    expect_parity(concat("score_pool ", batch, " x ", height, "x", width),
                  [](const Tensors& t) { return Tensors{score_pool(t[0])}; },
                  {random_tensor({batch, height, width, 2}, 1, -30, 30)});
  }
}

TEST(gpu, parity_gumbel_softmax) {
  QM_NEEDS_GPU();
  const NoiseRecord record;
  for (const std::int64_t batch : {std::int64_t{1}, std::int64_t{5}, std::int64_t{300}}) {
    const Tensor logits = random_tensor({batch, 4}, 1, -2, 2), given = random_tensor({batch, 4}, 2);
    std::vector<std::int32_t> quadrants;
    for (std::int64_t b = 0; b < batch; ++b) quadrants.push_back(static_cast<std::int32_t>(b % 4));
    const auto choose = [](const Tensor& of, const GumbelNoise& noise) {
      const QuadrantChoice choice = gumbel_softmax(of, noise);
      return Tensors{choice.one_hot, choice.selected};
    };
    const std::string what = concat("gumbel_softmax ", batch);
    expect_parity(what, [&](const Tensors& t) { return choose(t[0], {}); }, {logits});
    expect_parity(what + ", given noise",
                  [&](const Tensors& t) {
                    GumbelNoise noise;
                    noise.noise = given.to(t[0].dtype()).to(t[0].device());
                    return choose(t[0], noise);
                  },
                  {logits});
    expect_parity(what + ", forced",
                  [&](const Tensors& t) {
                    GumbelNoise noise;
                    noise.forced = t[1];
                    return choose(t[0], noise);
                  },
                  {logits, integers(quadrants)});
    expect_parity(what + ", drawn noise",
                  [&](const Tensors& t) {
                    GumbelNoise noise;
                    noise.record = record.on(t[0].device());
                    noise.site = 9;
                    return choose(t[0], noise);
                  },
                  {logits});
  }
}

TEST(gpu, parity_gumbel_softmax_takes_the_first_on_ties) {
  QM_NEEDS_GPU();
  const Tensor logits = Tensor::from(std::vector<float>{1, 2, 2, 0, 3, 3, 3, 3, -1, -2, -1, -1}, {3, 4}).to(kGpu);
  EXPECT_EQ(gumbel_softmax(logits, {}).selected.to_vector<std::int32_t>(), (std::vector<std::int32_t>{1, 0, 0}));
}

// ---- loss and metrics ------------------------------------------------------------------------------------------------

TEST(gpu, parity_soft_cross_entropy) {
  QM_NEEDS_GPU();
  for (const auto [batch, classes] :
       std::vector<std::array<std::int64_t, 2>>{{1, 1}, {1, 2}, {5, 10}, {3, 1000}, {700, 7}, {2, 257}}) {
    const Tensor targets = random_tensor({batch, classes}, 2, 0, 1);
    expect_parity(concat("soft_cross_entropy ", batch, " x ", classes),
                  [&](const Tensors& t) {
                    return Tensors{
                        soft_cross_entropy(t[0], targets.to(t[0].dtype()).to(t[0].device()), 1.0 / 1024)};
                  },
                  {random_tensor({batch, classes}, 1, -20, 20)});
  }
}

TEST(gpu, parity_classification_metrics) {
  QM_NEEDS_GPU();
  for (const auto [batch, classes] :
       std::vector<std::array<std::int64_t, 2>>{{1, 1}, {7, 3}, {64, 10}, {600, 300}}) {
    std::vector<std::int32_t> labels;
    for (std::int64_t b = 0; b < batch; ++b) labels.push_back(b % 7 == 6 ? -1 : static_cast<std::int32_t>(b % classes));
    // Few distinct values: many ties.
    std::vector<double> values = values_of(random_tensor({batch, classes}, 1, -8, 8));
    for (double& value : values) value = std::round(value);
    const Tensor logits = doubles({batch, classes}, values);
    expect_parity(concat("classification_metrics ", batch, " x ", classes),
                  [](const Tensors& t) {
                    const Tensor sums = Tensor::from(std::vector<double>{1, 2, 3, 4}, {4}).to(t[0].device());
                    add_classification_metrics(t[0], t[1], sums);
                    add_classification_metrics(t[0], t[1], sums);
                    return Tensors{sums};
                  },
                  {logits, integers(labels)}, {});
  }
}

// ---- input -----------------------------------------------------------------------------------------------------------

Tensor random_images(const Shape& shape) {
  const Tensor values = random_tensor(shape, 11, 0, 255.999);
  std::vector<std::uint8_t> bytes;
  for (const double value : values_of(values)) bytes.push_back(static_cast<std::uint8_t>(value));
  return Tensor::from(bytes, shape);
}

Tensor group_tensor(const std::vector<MixGroup>& groups, Device device) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(groups.data());
  const std::size_t size = groups.size() * sizeof(MixGroup);
  return Tensor::from(std::vector<std::uint8_t>(bytes, bytes + size), {static_cast<std::int64_t>(size)}).to(device);
}

/// Two boxes a row, of every fill, the second over a part of the first.
Tensor erased_rows(std::int64_t rows) {
  std::vector<std::uint8_t> bytes;
  for (std::uint32_t row = 0; row < rows; ++row) {
    const ErasedBox boxes[] = {{.seed = 5, .epoch = 2, .position = row, .stream = 256, .fill = EraseFill::kPixel, .top = 0,
                                .bottom = 3, .left = 1, .right = 6},
                               {.seed = 5, .epoch = 2, .position = row, .stream = 257,
                                .fill = row % 2 == 0 ? EraseFill::kRand : EraseFill::kConst, .top = 2, .bottom = 4,
                                .left = 0, .right = 3}};
    const auto* first = reinterpret_cast<const std::uint8_t*>(boxes);
    bytes.insert(bytes.end(), first, first + sizeof boxes);
  }
  return Tensor::from(bytes, {rows, static_cast<std::int64_t>(2 * sizeof(ErasedBox))});
}

TEST(gpu, parity_classification_metrics_of_nan) {
  QM_NEEDS_GPU();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor logits = doubles({3, 3}, {nan, 1, 2, 3, nan, 1, 1, 2, 3}).to(DType::kFloat32);
  std::vector<std::vector<double>> hits;
  for (const Device device : {Device{}, kGpu}) {
    const Tensor sums = Tensor::zeros({4}, DType::kFloat64, device);
    add_classification_metrics(logits.to(device), integers({0, 0, 2}).to(device), sums);
    const std::vector<double> values = sums.to(Device{}).to_vector<double>();
    hits.push_back({values.begin() + 1, values.end()});
  }
  EXPECT_EQ(hits[0], (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(hits[1], hits[0]);
}

TEST(gpu, parity_image_mix) {
  QM_NEEDS_GPU();
  const ImageNormalization normalization{{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}};
  const StepRecord record{.seed = 1, .first_position = 2};
  const std::vector<MixGroup> groups{{.pixel_weight = 0.3, .target_weight = 0.3},
                                     {.target_weight = 0.6, .top = 1, .bottom = 4, .left = 2, .right = 5},
                                     {}};
  const auto mix = [&](const Tensors& t, bool mixes, std::int64_t height) {
    const Device device = t[0].device();
    const Tensor there = record_tensor(record, device), there_groups = group_tensor(groups, device);
    const MixSettings settings{.normalization = normalization,
                               .label_smoothing = 0.1,
                               .classes = 5,
                               .group = 4,
                               .groups = mixes ? static_cast<const MixGroup*>(there_groups.raw()) : nullptr,
                               .record = static_cast<const StepRecord*>(there.raw()),
                               .erased = mixes ? erased_rows(t[1].count()).to(device) : Tensor()};
    const Tensor images = random_images({t[1].count(), height, 7, 3}).to(device);
    const MixedBatch mixed = mix_images(images, t[1], settings, t[0].dtype());
    return Tensors{mixed.x, mixed.targets};
  };
  const Tensor dtype_carrier = random_tensor({1}, 1);
  for (const std::int64_t height : {5, 8}) {  // pixels one by one, and in fours
    expect_parity(concat("image_mix, mixed, height ", height),
                  [&](const Tensors& t) { return mix(t, true, height); },
                  {dtype_carrier, integers({0, 1, 2, 2, 4, 0, 3, 1})}, {});
    expect_parity(concat("image_mix, not mixed, height ", height),
                  [&](const Tensors& t) { return mix(t, false, height); },
                  {dtype_carrier, integers({0, 1, 2, 2, 4, 0, 3})}, {});
  }
  expect_parity("normalize_images",
                [&](const Tensors& t) {
                  return Tensors{normalize_images(random_images({3, 4, 5, 3}).to(t[0].device()), normalization,
                                                  t[0].dtype())};
                },
                {dtype_carrier}, {});
}

// ---- optimizer -------------------------------------------------------------------------------------------------------

/// 100 and 5000 numbers, the second not decaying, with padding after each.
const std::vector<AdamWSegment> kSegments{{0, 100, true}, {128, 5000, false}};
constexpr std::int64_t kFlat = 5184;

/// Parameters, moments, EMA and norm after three steps with gradients of very different size.
Tensors train(const Tensor& start, const Tensor& gradient, double clip, bool ema) {
  const Tensor parameters = start.clone(), gradients = gradient.clone();
  AdamW optimizer({.weight_decay = 0.05, .clip_norm = clip, .ema = ema}, parameters, gradients, kSegments);
  const Tensor loss = Tensor::zeros({1}, start.dtype(), start.device());
  for (std::uint32_t step = 0; step < 3; ++step) {
    StepRecord record{.step = step, .learning_rate = 1e-2, .ema_decay = 0.9};
    optimizer.correct_bias(record);
    const Tensor there = record_tensor(record, start.device());
    optimizer.step(static_cast<const StepRecord*>(there.raw()), loss);
    visit_real(start.dtype(), "test", [&]<class T>() {
      add_inplace<T>(start.stream(), start.data<T>(), gradients.data<T>(), kFlat);
    });
  }
  Tensors results{parameters, optimizer.exp_avg(), optimizer.exp_avg_sq(), optimizer.grad_norm(),
                  optimizer.not_finite()};
  if (ema) results.push_back(optimizer.ema());
  return results;
}

TEST(gpu, parity_adamw) {
  QM_NEEDS_GPU();
  const Tensor start = random_tensor({kFlat}, 1), gradient = random_tensor({kFlat}, 2, 0.1, 1);
  for (const double clip : {0.0, 5.0, 1e6}) {
    for (const bool ema : {false, true}) {
      expect_parity(concat("adamw, clip ", clip, ema ? ", ema" : ""),
                    [&](const Tensors& t) { return train(t[0], t[1], clip, ema); }, {start, gradient}, {});
    }
  }
}

TEST(gpu, parity_adamw_stands_still_once_something_is_not_finite) {
  QM_NEEDS_GPU();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const bool in_loss : {false, true}) {
    Tensor gradient = random_tensor({kFlat}, 2);
    if (!in_loss) gradient.data<double>()[4000] = nan;
    const Tensor parameters = random_tensor({kFlat}, 1).to(DType::kFloat32).to(kGpu), before = parameters.clone();
    const Tensor gradients = gradient.to(DType::kFloat32).to(kGpu);
    AdamW optimizer({.ema = true}, parameters, gradients, kSegments);
    const Tensor bad = filled({1}, in_loss ? nan : 0.0).to(DType::kFloat32).to(kGpu);
    const Tensor good = filled({1}, 0.0).to(DType::kFloat32).to(kGpu);
    const Tensor record = record_tensor({.learning_rate = 1e-2, .bias_correction1 = 0.1, .bias_correction2 = 0.1}, kGpu);
    optimizer.step(static_cast<const StepRecord*>(record.raw()), bad);
    gradients.zero();
    optimizer.step(static_cast<const StepRecord*>(record.raw()), good);  // the flag sticks
    EXPECT_EQ(optimizer.not_finite().to_vector<std::int32_t>(), std::vector<std::int32_t>{1});
    EXPECT_EQ(parameters.to_vector<float>(), before.to_vector<float>());
    EXPECT_EQ(optimizer.ema().to_vector<float>(), before.to_vector<float>());
    EXPECT_EQ(optimizer.exp_avg().to_vector<float>(), std::vector<float>(kFlat, 0.0f));
  }
}

// ---- memory ----------------------------------------------------------------------------------------------------------

TEST(gpu, parity_cast) {
  QM_NEEDS_GPU();
  // Halfway cases, subnormals, infinities and a NaN among ordinary numbers.
  std::vector<float> values{0.0f, -0.0f, 1.00390625f, 1.01171875f, 1e-40f, -3e38f, 3.4e38f, INFINITY, -INFINITY};
  for (const double value : values_of(random_tensor({1000}, 1, -100, 100))) values.push_back(static_cast<float>(value));
  const Tensor host = Tensor::from(values, {static_cast<std::int64_t>(values.size())}), there = host.to(kGpu);
  EXPECT_EQ(there.to(DType::kFloat64).to_vector<double>(), host.to(DType::kFloat64).to_vector<double>());
  const Tensor rounded = host.to(DType::kBFloat16), rounded_there = there.to(DType::kBFloat16);
  EXPECT_EQ(rounded_there.to(DType::kFloat32).to_vector<float>(), rounded.to(DType::kFloat32).to_vector<float>());
  const Tensor nan = Tensor::from(std::vector<float>{NAN}, {1}).to(kGpu).to(DType::kBFloat16).to(DType::kFloat32);
  EXPECT_TRUE(std::isnan(nan.to_vector<float>().at(0)));
  const Tensor bytes = random_images({7, 11});
  EXPECT_EQ(bytes.to(kGpu).to(DType::kFloat32).to_vector<float>(), bytes.to(DType::kFloat32).to_vector<float>());
}

TEST(gpu, parity_copy_zero_and_add) {
  QM_NEEDS_GPU();
  for (const std::int64_t count : {std::int64_t{0}, std::int64_t{1}, std::int64_t{257}, std::int64_t{1} << 20}) {
    const Tensor host = random_tensor({count}, 1).to(DType::kFloat32), there = host.to(kGpu);
    EXPECT_EQ(there.to_vector<float>(), host.to_vector<float>());
    EXPECT_EQ(there.clone().to(Device{}).to_vector<float>(), host.to_vector<float>());
    const Tensor sum = there.clone();
    add_inplace<float>(sum.stream(), there.data<float>(), sum.data<float>(), count);
    add_inplace<float>(host.stream(), host.clone().data<float>(), host.data<float>(), count);
    EXPECT_EQ(sum.to_vector<float>(), host.to_vector<float>());
    sum.zero();
    EXPECT_EQ(sum.to_vector<float>(), std::vector<float>(static_cast<std::size_t>(count), 0.0f));
  }
}

TEST(gpu, parity_refuses_double) {
  QM_NEEDS_GPU();
  const Tensor x = random_tensor({2, 3}, 1).to(kGpu);
  try {
    bias_gelu(x, Tensor());
    FAIL() << "computed in double";
  } catch (const ShapeError& error) {
    EXPECT_NE(std::string(error.what()).find("fp64 runs on the CPU only"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace qm::test
