// The ops of autograd/ops on inputs as small as they can be and still have odd extents, several rows, and a gradient of
// every input.
#include <cmath>
#include <cstring>

#include "autograd/ops/bias_gelu.h"
#include "autograd/ops/classification_metrics.h"
#include "autograd/ops/conv2d.h"
#include "autograd/ops/cross_scan.h"
#include "autograd/ops/depthwise_conv_silu.h"
#include "autograd/ops/global_avg_pool.h"
#include "autograd/ops/gumbel_softmax.h"
#include "autograd/ops/image_mix.h"
#include "autograd/ops/layer_norm.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/mlp.h"
#include "autograd/ops/pixel_ops.h"
#include "autograd/ops/quad_scan.h"
#include "autograd/ops/residual_norm.h"
#include "autograd/ops/score_pool.h"
#include "autograd/ops/selective_scan.h"
#include "autograd/ops/soft_cross_entropy.h"
#include "kernels/base/philox.h"
#include "launch/self_test.h"

namespace qm {
namespace {

using Tensors = std::vector<Tensor>;

// ---- inputs ---------------------------------------------------------------------------------------------------------

/// Uniform numbers in (low, high), which floats represent exactly, so that both precisions start from the same.
Tensor random(const Shape& shape, std::uint32_t stream, double low = -1, double high = 1) {
  std::vector<double> values(static_cast<std::size_t>(count_of(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const PhiloxBlock block = philox(1, RandomPurpose::kSynthetic, 0, stream, static_cast<std::uint32_t>(i));
    values[i] = static_cast<float>(low + (high - low) * uniform_open(block.word[0]));
  }
  return Tensor::from(values, shape);
}

Tensor integers(const std::vector<std::int32_t>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}

Tensor random_pixels(const Shape& shape) {
  std::vector<std::uint8_t> bytes;
  for (const double value : random(shape, 99, 0, 255.999).to_vector<double>()) {
    bytes.push_back(static_cast<std::uint8_t>(value));
  }
  return Tensor::from(bytes, shape);
}

/// A plain structure, or an array of them, as kernels read it from device memory.
template <class T>
Tensor bytes_of(const std::vector<T>& structures) {
  std::vector<std::uint8_t> bytes(structures.size() * sizeof(T));
  std::memcpy(bytes.data(), structures.data(), bytes.size());
  return Tensor::from(bytes, {static_cast<std::int64_t>(bytes.size())});
}

Tensor record() {
  return bytes_of<StepRecord>({{.seed = 5, .step = 3, .first_position = 2}});
}

const StepRecord* record_in(const Tensor& bytes) {
  return static_cast<const StepRecord*>(bytes.raw());
}

// ---- the scans of the cores -----------------------------------------------------------------------------------------

/// x, projection and weights of two maps for K directions: D 6, N 2, R 3.
Tensors core_inputs(std::int64_t height, std::int64_t width, std::int64_t directions) {
  constexpr std::int64_t kBatch = 2, kChannels = 6, kStates = 2, kRank = 3;
  return {random({kBatch, height, width, kChannels}, 1),
          random({kBatch, height, width, directions * (kRank + 2 * kStates)}, 2),
          random({directions, kChannels, kRank}, 3, -0.5, 0.5),
          random({directions, kChannels}, 4, -3, 0),
          random({directions * kChannels, kStates}, 5),
          random({directions * kChannels}, 6)};
}

CoreScanWeights core_weights(const Tensors& t) {
  return {t[2], t[3], t[4], t[5]};
}

OpCase quad_scan_case() {
  OpCase op{"quad_scan", core_inputs(8, 12, 2), [](const Tensors& t) {
              const QuadScanGeometry geometry{.roll_h = 1, .roll_w = -1, .out_height = 7, .out_width = 10};
              return Tensors{quad_scan(t[0], t[1], {t[6], t[7]}, core_weights(t), geometry)};
            }};
  op.inputs.push_back(Tensor::from(std::vector<double>{0, 1, 0, 0, 0, 0, 0, 1}, {2, 4}));
  op.inputs.push_back(integers({1, 3}));
  return op;
}

// ---- ops with more than one line to them ----------------------------------------------------------------------------

OpCase residual_norm_case() {
  return {"residual_norm",
          {random({5, 3, 33}, 1), random({5, 3, 33}, 2), random({33}, 3, 0.5, 2), random({33}, 4), record()},
          [](const Tensors& t) {
            const DropPathSite site{record_in(t[4]), 7, 0.4f};
            const ResidualNorm sum = residual_norm(t[0], t[1], site, t[2], t[3]);
            return Tensors{sum.stream, sum.y};
          },
          {0, 1}};
}

OpCase gumbel_softmax_case() {
  return {"gumbel_softmax", {random({37, 4}, 1, -2, 2), record()}, [](const Tensors& t) {
            GumbelNoise noise;
            noise.record = record_in(t[1]);
            noise.site = 9;
            const QuadrantChoice choice = gumbel_softmax(t[0], noise);
            return Tensors{choice.one_hot, choice.selected};
          }};
}

OpCase soft_cross_entropy_case() {
  return {"soft_cross_entropy", {random({5, 257}, 1, -10, 10)}, [](const Tensors& t) {
            const Tensor targets = random({5, 257}, 2, 0, 1).to(t[0].dtype()).to(t[0].device());
            return Tensors{soft_cross_entropy(t[0], targets, 1.0 / 8)};
          }};
}

OpCase classification_metrics_case() {
  return {"classification_metrics",
          {random({7, 33}, 1, -8, 8), integers({0, 3, -1, 32, 7, 7, 1})},
          [](const Tensors& t) {
            const Tensor sums = Tensor::from(std::vector<double>{1, 2, 3, 4}, {4}).to(t[0].device());
            add_classification_metrics(t[0], t[1], sums);
            return Tensors{sums};
          },
          {}};
}

/// Input 0 is there to say in which precision the images are wanted.
OpCase image_mix_case() {
  const std::vector<MixGroup> groups{{.pixel_weight = 0.3, .target_weight = 0.3},
                                     {.target_weight = 0.6, .top = 1, .bottom = 4, .left = 2, .right = 5}};
  return {"image_mix",
          {random({1}, 1), random_pixels({6, 5, 7, 3}), integers({0, 1, 2, 2, 4, 0}), bytes_of(groups),
           bytes_of<StepRecord>({{}})},
          [](const Tensors& t) {
            const MixSettings settings{.normalization = {{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}},
                                       .label_smoothing = 0.1,
                                       .classes = 5,
                                       .group = 4,
                                       .groups = static_cast<const MixGroup*>(t[3].raw()),
                                       .record = record_in(t[4])};
            const MixedBatch mixed = mix_images(t[1], t[2], settings, t[0].dtype());
            return Tensors{mixed.x, mixed.targets};
          },
          {}};
}

/// Two operations an image, of every way in which a kernel computes them.
OpCase pixel_ops_case() {
  using Kind = PixelOpKind;
  std::vector<PixelOp> ops{{.kind = Kind::kAutoContrast},
                           {.kind = Kind::kContrast, .argument = 0.3},
                           {.kind = Kind::kAffine, .matrix = {0.9, 0.2, 1.3, -0.2, 0.9, 0.4}, .fill = {1, 2, 3}},
                           {.kind = Kind::kEqualize},
                           {.kind = Kind::kSharpness, .argument = 1.8},
                           {.kind = Kind::kHue, .argument = -0.2},
                           {.kind = Kind::kBlur, .argument = 1.2},
                           {.kind = Kind::kColor, .argument = 0.4}};
  return {"pixel_ops", {random_pixels({4, 9, 7, 3}), bytes_of(ops)}, [](const Tensors& t) {
            return Tensors{apply_pixel_ops(t[0], t[1].reshape({4, 2 * std::int64_t{sizeof(PixelOp)}}), true)};
          }, {}};
}

OpCase selective_scan_case() {
  return {"selective_scan",
          {random({2, 19, 2, 5}, 1), random({2, 19, 2, 5}, 2, -2, 2), random({10, 3}, 3, -2, -0.1),
           random({2, 19, 2, 3}, 4), random({2, 19, 2, 3}, 5), random({10}, 6), random({10}, 7)},
          [](const Tensors& t) {
            return Tensors{selective_scan({t[0], t[1], t[2], t[3], t[4], t[5], t[6]})};
          }};
}

}  // namespace

std::vector<OpCase> op_cases() {
  return {
      {"linear",
       {random({7, 33}, 1), random({65, 33}, 2), random({65}, 3)},
       [](const Tensors& t) { return Tensors{linear(t[0], t[1], t[2])}; }},
      {"conv2d",
       {random({2, 9, 7, 3}, 1), random({8, 3, 3, 3}, 2), random({8}, 3)},
       [](const Tensors& t) { return Tensors{conv2d(t[0], t[1], t[2], 2)}; }},
      {"depthwise_conv_silu",
       {random({2, 7, 5, 33}, 1, -2, 2), random({33, 1, 3, 3}, 2)},
       [](const Tensors& t) { return Tensors{depthwise_conv_silu(t[0], t[1], 8, 8)}; }},
      {"bias_gelu",
       {random({7, 33}, 1, -4, 4), random({33}, 2)},
       [](const Tensors& t) { return Tensors{bias_gelu(t[0], t[1])}; }},
      {"mlp",
       {random({7, 32}, 1), random({64, 32}, 2), random({64}, 3), random({33, 64}, 4), random({33}, 5)},
       [](const Tensors& t) { return Tensors{mlp(t[0], {{t[1], t[2]}, {t[3], t[4]}})}; }},
      {"layer_norm",
       {random({7, 33}, 1, -1, 3), random({33}, 2, 0.5, 2), random({33}, 3)},
       [](const Tensors& t) { return Tensors{layer_norm(t[0], t[1], t[2])}; }},
      residual_norm_case(),
      {"global_avg_pool", {random({3, 49, 33}, 1)}, [](const Tensors& t) { return Tensors{global_avg_pool(t[0])}; }},
      {"score_pool", {random({3, 4, 6, 2}, 1, -5, 5)}, [](const Tensors& t) { return Tensors{score_pool(t[0])}; }},
      gumbel_softmax_case(),
      selective_scan_case(),
      {"cross_scan", core_inputs(5, 7, 4),
       [](const Tensors& t) { return Tensors{cross_scan(t[0], t[1], core_weights(t))}; }},
      quad_scan_case(),
      soft_cross_entropy_case(),
      classification_metrics_case(),
      image_mix_case(),
      pixel_ops_case(),
  };
}

}  // namespace qm
