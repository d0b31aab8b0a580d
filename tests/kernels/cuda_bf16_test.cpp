// Every op in bfloat16 on a GPU against the same op in float on the GPU, on inputs that bfloat16 represents exactly.
//
// What the two differ by is what bf16 rounds: results that are stored as bfloat16 (relative 2⁻⁹ each), and what an op
// rounds on the way. ‖error‖ ≤ kRounded ‖reference‖ for those; results held in float (parameter gradients, statistics)
// are sums of many such terms and lie closer. Two runs give the same bits.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "autograd/ops/bias_gelu.h"
#include "autograd/ops/conv2d.h"
#include "autograd/ops/cross_scan.h"
#include "autograd/ops/depthwise_conv_silu.h"
#include "autograd/ops/global_avg_pool.h"
#include "autograd/ops/image_mix.h"
#include "autograd/ops/layer_norm.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/mlp.h"
#include "autograd/ops/quad_scan.h"
#include "autograd/ops/residual_norm.h"
#include "autograd/ops/score_pool.h"
#include "autograd/ops/selective_scan.h"
#include "autograd/tape.h"
#include "tests/support/gpu.h"
#include "tests/support/tensors.h"

namespace qm::test {
namespace {

/// Two roundings of 2⁻⁹ each at the most.
constexpr double kRounded = 1.0 / 256;

struct Input {
  Tensor values;
  bool activation;  ///< bfloat16 in the run in bf16; parameters stay float
  bool wants_gradient = true;
};
Input activation(const Tensor& values) { return {values, true}; }
Input parameter(const Tensor& values) { return {values, false}; }
Input image(const Tensor& values) { return {values, true, false}; }

using Tensors = std::vector<Tensor>;
using Op = std::function<Tensors(const Tensors& inputs)>;

struct Result {
  std::string name;
  std::vector<double> values;
};

Tensor rounded_to_bf16(const Tensor& values) { return values.to(DType::kBFloat16).to(DType::kFloat32); }

std::vector<Result> run(const Op& op, const std::vector<Input>& inputs, DType activations) {
  Tensors leaves;
  for (const Input& input : inputs) {
    leaves.push_back(rounded_to_bf16(input.values).to(input.activation ? activations : DType::kFloat32).to(kGpu));
    if (input.wants_gradient) leaves.back().set_requires_grad();
  }
  Tape tape;
  Tensors outputs;
  {
    Tape::Recording recording(tape);
    outputs = op(leaves);
  }
  std::vector<Result> results;
  Tensors grads;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    results.push_back({concat("output ", i), doubles_of(outputs[i])});
    grads.push_back(rounded_to_bf16(random_tensor(outputs[i].shape(), 1000 + i)).to(outputs[i].dtype()).to(kGpu));
  }
  tape.backward(outputs, grads);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (inputs[i].wants_gradient) results.push_back({concat("gradient ", i), doubles_of(leaves[i].grad())});
  }
  return results;
}

double norm_of(const std::vector<double>& values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

void expect_twins(const std::string& what, const Op& op, const std::vector<Input>& inputs, double limit = kRounded) {
  const auto reference = run(op, inputs, DType::kFloat32), rounded = run(op, inputs, DType::kBFloat16);
  const auto again = run(op, inputs, DType::kBFloat16);
  for (std::size_t r = 0; r < reference.size(); ++r) {
    std::vector<double> error = rounded[r].values;
    ASSERT_EQ(error.size(), reference[r].values.size()) << what << ": " << reference[r].name;
    for (std::size_t i = 0; i < error.size(); ++i) error[i] -= reference[r].values[i];
    EXPECT_LE(norm_of(error), limit * norm_of(reference[r].values)) << what << ": " << reference[r].name;
    EXPECT_EQ(rounded[r].values, again[r].values) << what << ": " << reference[r].name << " differs between two runs";
  }
}

// ---- products, convolutions, norms ---------------------------------------------------------------------------------

TEST(gpu, bf16_linear) {
  QM_NEEDS_GPU();
  const std::vector<std::array<std::int64_t, 3>> sizes{
      {1, 1, 1}, {7, 3, 2}, {100, 33, 65}, {513, 96, 192}, {1200, 48, 2}, {64, 192, 7}, {33, 384, 96}, {3136, 192, 16}};
  for (const auto [rows, in, out] : sizes) {
    expect_twins(concat("linear ", rows, " x ", in, " to ", out),
                 [](const Tensors& t) { return Tensors{linear(t[0], t[1], t[2])}; },
                 {activation(random_tensor({rows, in}, 1)), parameter(random_tensor({out, in}, 2)),
                  parameter(random_tensor({out}, 3))});
  }
}

/// With products that are made with their GELU in one kernel, for each of its tiles, and with others; with rows and
/// channels that end within a tile, and rows for several chunks.
TEST(gpu, bf16_mlp) {
  QM_NEEDS_GPU();
  // rows, in, hidden, out
  const std::vector<std::array<std::int64_t, 4>> sizes{
      {1, 16, 8, 16},       {7, 32, 40, 16},     {300, 96, 384, 96},   {513, 48, 192, 48}, {1000, 192, 768, 192},
      {260, 96, 48, 2},     {130, 256, 136, 64}, {65, 24, 96, 24},     {33, 384, 1536, 384}, {70, 192, 96, 48},
      {9000, 64, 256, 128}, {20011, 96, 128, 96}, {20011, 160, 72, 144}, {129, 128, 130, 128}, {64, 272, 64, 7}};
  for (const auto [rows, in, hidden, out] : sizes) {
    const double in_scale = 1 / std::sqrt(static_cast<double>(in)), scale = 1 / std::sqrt(static_cast<double>(hidden));
    expect_twins(concat("mlp ", rows, " x ", in, " to ", hidden, " to ", out),
                 [](const Tensors& t) { return Tensors{mlp(t[0], {{t[1], t[2]}, {t[3], t[4]}})}; },
                 {activation(random_tensor({rows, in}, 1, -3, 3)),
                  parameter(random_tensor({hidden, in}, 2, -in_scale, in_scale)), parameter(random_tensor({hidden}, 3)),
                  parameter(random_tensor({out, hidden}, 4, -scale, scale)), parameter(random_tensor({out}, 5))},
                 2 * kRounded);
  }
}

TEST(gpu, bf16_conv2d) {
  QM_NEEDS_GPU();
  const std::vector<std::array<std::int64_t, 5>> sizes{
      {2, 5, 7, 3, 8}, {3, 33, 31, 3, 24}, {2, 16, 16, 24, 48}, {2, 14, 10, 48, 96}, {1, 9, 8, 5, 7}, {1, 6, 5, 200, 16}};
  for (const auto [batch, height, width, in, out] : sizes) {
    expect_twins(concat("conv2d ", batch, " x ", height, "x", width, ", ", in, " to ", out),
                 [](const Tensors& t) { return Tensors{conv2d(t[0], t[1], t[2], 2)}; },
                 {activation(random_tensor({batch, height, width, in}, 1)),
                  parameter(random_tensor({out, in, 3, 3}, 2)), parameter(random_tensor({out}, 3))});
  }
}

/// Of images, which want no gradient, for every width of the products and with rows that end within a group of pixels.
TEST(gpu, bf16_conv2d_of_images) {
  QM_NEEDS_GPU();
  const std::vector<std::array<std::int64_t, 4>> sizes{{1, 1, 2, 8},    {2, 5, 6, 16},    {3, 32, 32, 24}, {2, 33, 34, 32},
                                                       {2, 64, 66, 40}, {2, 224, 224, 48}, {1, 31, 62, 64}, {5, 96, 130, 56},
                                                       {2, 10, 31, 24}, {2, 10, 32, 72}};
  for (const auto [batch, height, width, out] : sizes) {
    expect_twins(concat("conv2d of images ", batch, " x ", height, "x", width, " to ", out),
                 [](const Tensors& t) { return Tensors{conv2d(t[0], t[1], t[2], 2)}; },
                 {image(random_tensor({batch, height, width, 3}, 1)), parameter(random_tensor({out, 3, 3, 3}, 2)),
                  parameter(random_tensor({out}, 3))});
    expect_twins(concat("conv2d of images without a bias ", batch, " x ", height, "x", width, " to ", out),
                 [](const Tensors& t) { return Tensors{conv2d(t[0], t[1], Tensor(), 2)}; },
                 {image(random_tensor({batch, height, width, 3}, 1)), parameter(random_tensor({out, 3, 3, 3}, 2))});
  }
}

TEST(gpu, bf16_normalize_images) {
  QM_NEEDS_GPU();
  const ImageNormalization normalization{{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}};
  for (const std::int64_t width : {5, 8}) {  // pixels one by one, and in fours
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(2 * 3 * width * 3));
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(37 * i + 11);
    const Tensor images = Tensor::from(bytes, {2, 3, width, 3}).to(kGpu);
    const auto wide = normalize_images(images, normalization, DType::kFloat32).to(DType::kBFloat16);
    const auto narrow = normalize_images(images, normalization, DType::kBFloat16);
    EXPECT_EQ(doubles_of(narrow), doubles_of(wide)) << "width " << width;
  }
}

TEST(gpu, bf16_depthwise_conv_silu) {
  QM_NEEDS_GPU();
  const std::vector<std::array<std::int64_t, 6>> sizes{
      {1, 1, 1, 2, 4, 4}, {2, 3, 5, 3, 4, 8}, {1, 7, 7, 33, 8, 8}, {2, 16, 17, 40, 16, 20}, {1, 56, 55, 64, 56, 56}};
  for (const auto [batch, height, width, channels, out_height, out_width] : sizes) {
    expect_twins(concat("depthwise_conv_silu ", batch, " x ", height, "x", width, " x ", channels),
                 [h = out_height, w = out_width](const Tensors& t) {
                   return Tensors{depthwise_conv_silu(t[0], t[1], h, w)};
                 },
                 {activation(random_tensor({batch, height, width, channels}, 1, -2, 2)),
                  parameter(random_tensor({channels, 1, 3, 3}, 2))});
  }
}

/// An infinite pixel reaches the windows that it lies in, and none beside them.
TEST(gpu, bf16_conv2d_of_an_infinite_pixel) {
  QM_NEEDS_GPU();
  constexpr std::int64_t kHeight = 12, kWidth = 70, kOut = 24;
  const Tensor weight = random_tensor({kOut, 3, 3, 3}, 1, 0.5, 1).to(DType::kFloat32).to(kGpu);
  const std::vector<std::array<std::int64_t, 2>> pixels{{0, 0}, {5, 20}, {6, 21}, {5, 31}, {11, 69}};
  for (const auto [row, column] : pixels) {
    Tensor image = Tensor::zeros({1, kHeight, kWidth, 3}, DType::kFloat64);
    image.data<double>()[(row * kWidth + column) * 3] = std::numeric_limits<double>::infinity();
    const Tensor y = conv2d(image.to(DType::kBFloat16).to(kGpu), weight, Tensor(), 2);
    const std::vector<double> values = doubles_of(y);
    for (std::int64_t i = 0; i < y.count(); ++i) {
      const std::int64_t down = i / kOut / y.dim(2) * 2 - row, right = i / kOut % y.dim(2) * 2 - column;
      const bool within = std::abs(down) <= 1 && std::abs(right) <= 1;
      EXPECT_EQ(std::isfinite(values[static_cast<std::size_t>(i)]), !within)
          << "output " << i << " of the pixel in row " << row << ", column " << column;
    }
  }
}

const std::vector<std::array<std::int64_t, 2>> kMatrices{{1, 2},    {1, 33},  {7, 31},   {8, 32},    {65, 96},
                                                         {512, 48}, {513, 40}, {1000, 130}, {9, 1536}, {40, 768},
                                                         {70, 192}, {33, 384}, {20, 512}, {9, 1024},
                                                         {700, 24}, {300, 64}, {65, 128}, {31, 256}};

/// Where GELU is next to nothing it is right relatively still.
TEST(gpu, bf16_gelu_of_negative_numbers) {
  QM_NEEDS_GPU();
  for (const double x : {-1.0, -2.0, -3.0, -4.0}) {
    expect_twins(concat("bias_gelu at ", x), [](const Tensors& t) { return Tensors{bias_gelu(t[0], Tensor())}; },
                 {activation(random_tensor({8, 8}, 1, x - 0.25, x + 0.25))});
  }
}

TEST(gpu, bf16_gelu_of_extreme_numbers) {
  QM_NEEDS_GPU();
  const double infinity = std::numeric_limits<double>::infinity();
  const auto gelu = [](double v) {
    const Tensor x = Tensor::from(std::vector<double>{v}, {1, 1}).to(DType::kBFloat16).to(kGpu);
    return doubles_of(bias_gelu(x, Tensor()))[0];
  };
  EXPECT_TRUE(std::isnan(gelu(std::numeric_limits<double>::quiet_NaN())));
  EXPECT_EQ(gelu(infinity), infinity);
  EXPECT_EQ(gelu(1024), 1024);
  for (const double v : {-infinity, -1024.0, -16.0}) EXPECT_NEAR(gelu(v), 0, 1e-13) << v;
}

TEST(gpu, bf16_element_wise) {
  QM_NEEDS_GPU();
  for (const auto [rows, channels] : kMatrices) {
    const std::string what = concat(rows, " x ", channels);
    const Tensor x = random_tensor({rows, channels}, 1, -3, 3), weight = random_tensor({channels}, 2, 0.5, 2);
    const Tensor bias = random_tensor({channels}, 3);
    expect_twins("bias_gelu " + what, [](const Tensors& t) { return Tensors{bias_gelu(t[0], t[1])}; },
                 {activation(x), parameter(bias)});
    expect_twins("layer_norm " + what, [](const Tensors& t) { return Tensors{layer_norm(t[0], t[1], t[2])}; },
                 {activation(x), parameter(weight), parameter(bias)});
    if (channels > 2) {  // of two, the gradient is nothing but rounding
      expect_twins("layer_norm twice " + what,
                   [](const Tensors& t) {
                     const Tensor y = bias_gelu(t[0], t[2]);
                     return Tensors{layer_norm(y, t[1], t[2]), layer_norm(y, t[3], t[2])};
                   },
                   {activation(x), parameter(weight), parameter(bias), parameter(random_tensor({channels}, 4, 0.5, 2))},
                   4 * kRounded);  // norms of what is rounded, and sums of rounded gradients
    }
    expect_twins("residual_norm " + what,
                 [](const Tensors& t) {
                   const ResidualNorm sum = residual_norm(t[0], t[1], {}, t[2], t[3]);
                   return Tensors{sum.stream, sum.y};
                 },
                 {activation(x.reshape({1, rows, channels})), activation(random_tensor({1, rows, channels}, 4)),
                  parameter(weight), parameter(bias)},
                 2 * kRounded);  // y is the norm of the rounded sum
    expect_twins("global_avg_pool " + what, [](const Tensors& t) { return Tensors{global_avg_pool(t[0])}; },
                 {activation(x.reshape({1, rows, channels}))});
  }
  expect_twins("score_pool", [](const Tensors& t) { return Tensors{score_pool(t[0])}; },
               {activation(random_tensor({2, 12, 20, 2}, 1, -3, 3))});
}

// ---- scans ---------------------------------------------------------------------------------------------------------

/// Parameters of a core's scan from the fourth input on: dt weight, dt bias, A_logs, D.
std::vector<Input> scan_parameters(std::int64_t directions, std::int64_t channels, std::int64_t rank,
                                   std::int64_t states) {
  return {parameter(random_tensor({directions, channels, rank}, 11)),
          parameter(random_tensor({directions, channels}, 12, -3, 1)),
          parameter(random_tensor({directions * channels, states}, 13)),
          parameter(random_tensor({directions * channels}, 14))};
}

TEST(gpu, bf16_selective_scan) {
  QM_NEEDS_GPU();
  for (const auto [length, states] : std::vector<std::array<std::int64_t, 2>>{{1, 1}, {50, 1}, {300, 16}}) {
    const Shape tokens{2, length, 2, 20}, per_state{2, length, 2, states};
    expect_twins(concat("selective_scan ", length, ", N ", states),
                 [](const Tensors& t) {
                   return Tensors{selective_scan({t[0], t[1], t[2], t[3], t[4], t[5], t[6]})};
                 },
                 {activation(random_tensor(tokens, 1)), activation(random_tensor(tokens, 2)),
                  parameter(random_tensor({40, states}, 3, -2, -0.1)), activation(random_tensor(per_state, 4)),
                  activation(random_tensor(per_state, 5)), parameter(random_tensor({40}, 6)),
                  parameter(random_tensor({40}, 7))});
  }
}

struct CoreCase {
  std::int64_t batch, height, width, channels, rank, states;
};

TEST(gpu, bf16_cross_scan) {
  QM_NEEDS_GPU();
  for (const CoreCase& c : std::vector<CoreCase>{{1, 1, 1, 2, 1, 1},    {2, 3, 5, 20, 2, 1},    {1, 4, 4, 64, 6, 1},
                                                 {2, 14, 14, 96, 12, 1}, {2, 7, 7, 200, 24, 1}, {1, 6, 9, 288, 48, 1},
                                                 {1, 5, 6, 384, 48, 1},
                                                 {1, 16, 16, 384, 5, 1}, {1, 5, 6, 40, 3, 4}}) {
    std::vector<Input> inputs{
        activation(random_tensor({c.batch, c.height, c.width, c.channels}, 1)),
        activation(random_tensor({c.batch, c.height, c.width, 4 * (c.rank + 2 * c.states)}, 2))};
    for (const Input& weight : scan_parameters(4, c.channels, c.rank, c.states)) inputs.push_back(weight);
    // Four directions are added up, two by two rounded on the way.
    expect_twins(concat("cross_scan ", c.batch, " x ", c.height, "x", c.width, " x ", c.channels, ", R ", c.rank,
                        ", N ", c.states),
                 [](const Tensors& t) { return Tensors{cross_scan(t[0], t[1], {t[2], t[3], t[4], t[5]})}; }, inputs,
                 2 * kRounded);
  }
}

void expect_quad_scan_twins(FineOrder order) {
  for (const CoreCase& c : std::vector<CoreCase>{{2, 4, 4, 2, 1, 1},    {3, 4, 8, 20, 2, 1},   {4, 8, 12, 96, 6, 1},
                                                 {2, 16, 16, 192, 6, 1}, {2, 28, 28, 200, 12, 1}, {1, 8, 8, 40, 3, 4},
                                                 {4, 12, 8, 384, 12, 1}}) {
    for (const std::int64_t cropped : {0, 1}) {
      std::vector<std::int32_t> quadrants;
      for (std::int64_t b = 0; b < c.batch; ++b) quadrants.push_back(static_cast<std::int32_t>(b % 4));
      const Tensor selected = Tensor::from(quadrants, {c.batch}).to(kGpu);
      std::vector<Input> inputs{
          activation(random_tensor({c.batch, c.height, c.width, c.channels}, 1)),
          activation(random_tensor({c.batch, c.height, c.width, 2 * (c.rank + 2 * c.states)}, 2)),
          parameter(random_tensor({c.batch, 4}, 3))};
      for (const Input& weight : scan_parameters(2, c.channels, c.rank, c.states)) inputs.push_back(weight);
      expect_twins(concat("quad_scan ", c.batch, " x ", c.height, "x", c.width, " x ", c.channels, ", R ", c.rank,
                          ", N ", c.states, ", crop ", cropped),
                   [&](const Tensors& t) {
                     return Tensors{quad_scan(t[0], t[1], {t[2], selected}, {t[3], t[4], t[5], t[6]},
                                              {c.height / 8, -(c.height / 8), order, c.height - cropped,
                                               c.width - 2 * cropped})};
                   },
                   inputs, 2 * kRounded);
    }
  }
}

TEST(gpu, bf16_quad_scan_quadtree) {
  QM_NEEDS_GPU();
  expect_quad_scan_twins(FineOrder::kQuadtree);
}

TEST(gpu, bf16_quad_scan_window_raster) {
  QM_NEEDS_GPU();
  expect_quad_scan_twins(FineOrder::kWindowRaster);
}

}  // namespace
}  // namespace qm::test
