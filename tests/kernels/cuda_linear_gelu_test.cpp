// kernels/linear_gelu.h in bf16 on a GPU, where product and GELU are one kernel, number by number.
//
// The references start from what the kernel itself has rounded (pre), so that what is left is one rounding of the
// result, at most 2⁻⁸ relatively, and the error of the normal distribution's tail: a product rounded before it is
// multiplied, or a GELU of something else than pre, is off by more.
#include "kernels/linear_gelu.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "autograd/ops/linear.h"
#include "kernels/linear.h"
#include "tests/support/gpu.h"
#include "tests/support/tensors.h"

namespace qm::test {
namespace {

constexpr double kRounding = 1.001 / 256;

double cdf(double v) { return 0.5 * std::erfc(-v / std::numbers::sqrt2); }
double gelu(double v) { return v * cdf(v); }
double density(double v) { return std::exp(-v * v / 2) * std::numbers::inv_sqrtpi / std::numbers::sqrt2; }
double gelu_derivative(double v) { return cdf(v) + v * density(v); }

/// The values in that type on the GPU, `offset` numbers behind an aligned address.
Tensor on_gpu(const Tensor& values, DType dtype, std::int64_t offset) {
  const Tensor buffer = Tensor::zeros({values.count() + offset}, dtype, kGpu);
  Tensor part = buffer.slice(offset, values.shape());
  part.copy_from(values.to(dtype).to(kGpu));
  return part;
}
/// Undefined numbers in bf16, likewise.
Tensor empty_on_gpu(const Shape& shape, std::int64_t offset) {
  return Tensor::empty({count_of(shape) + offset}, DType::kBFloat16, kGpu).slice(offset, shape);
}

Tensor as_doubles(const Tensor& tensor) { return tensor.to(DType::kFloat64).to(Device{}); }

/// x Wᵀ in double.
std::vector<double> product(const Tensor& x, const Tensor& weight) {
  return values_of(linear(as_doubles(x), as_doubles(weight), Tensor()));
}

/// grad_y W in double.
std::vector<double> product_backward(const Tensor& grad_y, const Tensor& weight) {
  const Tensor of_y = as_doubles(grad_y), w = as_doubles(weight);
  const Tensor of_x = Tensor::empty({of_y.dim(0), w.dim(1)}, DType::kFloat64);
  linear_backward<double>(of_x.stream(), {.rows = of_y.dim(0), .in = w.dim(1), .out = w.dim(0), .x = nullptr,
                                          .weight = w.data<double>(), .grad_y = of_y.data<double>(),
                                          .grad_x = of_x.data<double>(), .grad_x_adds = false,
                                          .grad_weight = nullptr, .grad_bias = nullptr});
  return values_of(of_x);
}

/// No number i is further from what is expected than bound(i).
template <class Bound>
void expect_within(const std::string& what, const std::vector<double>& actual, const std::vector<double>& expected,
                   Bound bound) {
  ASSERT_EQ(actual.size(), expected.size());
  std::size_t bad = 0, first = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::abs(actual[i] - expected[i]) <= bound(i)) continue;
    if (bad++ == 0) first = i;
  }
  EXPECT_EQ(bad, 0u) << what << ": of " << actual.size() << ", the first is number " << first << ", " << actual[first]
                     << " instead of " << expected[first];
}

/// rows, inner channels, columns of the product.
using Sizes = std::array<std::int64_t, 3>;

/// Each tile, with rows and columns that end within one, and several tiles a chunk; none that a GPU of 99 KB a block
/// has no room for.
const std::vector<Sizes> kSizes{{1, 16, 8},       {7, 32, 40},       {300, 96, 384},  {129, 176, 768}, {20011, 96, 136},
                                {20011, 144, 136}, {70001, 16, 48},   {5003, 144, 64}, {20011, 64, 72}};

void check_forward(const Sizes& sizes, std::int64_t offset) {
  const auto [rows, in, out] = sizes;
  const std::string what = concat("forward ", rows, " x ", in, " to ", out, ", offset ", offset);
  const double scale = 2 / std::sqrt(static_cast<double>(in));
  const Tensor x = on_gpu(random_tensor({rows, in}, 1, -2, 2), DType::kBFloat16, offset);
  const Tensor weight = on_gpu(random_tensor({out, in}, 2, -scale, scale), DType::kBFloat16, offset);
  const Tensor bias = on_gpu(random_tensor({out}, 3), DType::kFloat32, offset);
  const Tensor pre = empty_on_gpu({rows, out}, offset), y = empty_on_gpu({rows, out}, offset);
  LinearGeluForward<bfloat16> p{.rows = rows, .in = in, .out = out, .x = x.data<bfloat16>(),
                                .weight = weight.data<bfloat16>(), .bias = bias.data<float>(),
                                .pre = pre.data<bfloat16>(), .y = y.data<bfloat16>()};
  linear_gelu_forward<bfloat16>(x.stream(), p);

  const std::vector<double> pre_rounded = doubles_of(pre), biases = doubles_of(bias);
  const std::vector<double> exact = product(x, weight);
  expect_within(what + ", pre", pre_rounded, exact,
                [&](std::size_t i) { return kRounding * std::abs(exact[i]) + 2e-5; });
  std::vector<double> expected(exact.size());
  for (std::size_t i = 0; i < exact.size(); ++i) {
    expected[i] = gelu(pre_rounded[i] + biases[i % static_cast<std::size_t>(out)]);
  }
  const std::vector<double> actual = doubles_of(y);
  expect_within(what, actual, expected,
                [&](std::size_t i) { return (kRounding + 4e-5) * std::abs(expected[i]) + 1e-7; });

  const Tensor again = empty_on_gpu({rows, out}, offset);
  p.pre = nullptr;
  p.y = again.data<bfloat16>();
  linear_gelu_forward<bfloat16>(x.stream(), p);
  EXPECT_EQ(doubles_of(again), actual) << what << ": without pre";
}

void check_backward(const Sizes& sizes, std::int64_t offset) {
  const auto [rows, out, in] = sizes;
  const std::string what = concat("backward ", rows, " x ", out, " to ", in, ", offset ", offset);
  const double scale = 1 / std::sqrt(static_cast<double>(out));
  const Tensor grad_y = on_gpu(random_tensor({rows, out}, 1), DType::kBFloat16, offset);
  const Tensor weight = on_gpu(random_tensor({out, in}, 2, -scale, scale), DType::kBFloat16, offset);
  const Tensor bias = on_gpu(random_tensor({in}, 3), DType::kFloat32, offset);
  const Tensor pre = on_gpu(random_tensor({rows, in}, 4, -5, 5), DType::kBFloat16, offset);
  const Tensor grad_pre = empty_on_gpu({rows, in}, offset);
  const Tensor grad_bias = on_gpu(random_tensor({in}, 5), DType::kFloat32, 0);
  const std::vector<double> bias_before = doubles_of(grad_bias);
  GeluLinearBackward<bfloat16> p{.rows = rows, .in = in, .out = out, .grad_y = grad_y.data<bfloat16>(),
                                 .weight = weight.data<bfloat16>(), .pre = pre.data<bfloat16>(),
                                 .bias = bias.data<float>(), .grad_pre = grad_pre.data<bfloat16>(),
                                 .grad_bias = grad_bias.data<float>()};
  gelu_linear_backward<bfloat16>(pre.stream(), p);

  const std::vector<double> pres = doubles_of(pre), biases = doubles_of(bias);
  const std::vector<double> grad = product_backward(grad_y, weight);
  std::vector<double> expected(grad.size()), sums = bias_before, magnitudes(sums.size());
  for (std::size_t i = 0; i < grad.size(); ++i) {
    const std::size_t c = i % static_cast<std::size_t>(in);
    expected[i] = grad[i] * gelu_derivative(pres[i] + biases[c]);
    sums[c] += expected[i];
    magnitudes[c] += std::abs(expected[i]);
  }
  const std::vector<double> actual = doubles_of(grad_pre);
  const double rounded_product = offset == 0 ? 0 : kRounding;  // by the kernels of other addresses
  expect_within(what, actual, expected, [&](std::size_t i) {
    return (kRounding + rounded_product * 1.01) * std::abs(expected[i]) + 4e-5 * std::abs(grad[i]) + 1e-5;
  });
  expect_within(what + ", bias", doubles_of(grad_bias), sums,
                [&](std::size_t c) { return (4e-5 + rounded_product) * magnitudes[c] + 1e-4; });

  const Tensor again = empty_on_gpu({rows, in}, offset);
  p.grad_bias = nullptr;
  p.grad_pre = again.data<bfloat16>();
  gelu_linear_backward<bfloat16>(pre.stream(), p);
  EXPECT_EQ(doubles_of(again), actual) << what << ": without the bias";
}

TEST(gpu, bf16_linear_gelu_forward) {
  QM_NEEDS_GPU();
  for (const Sizes& sizes : kSizes) check_forward(sizes, 0);
}

TEST(gpu, bf16_linear_gelu_backward) {
  QM_NEEDS_GPU();
  for (const Sizes& sizes : kSizes) check_backward(sizes, 0);
}

/// Products that vectors of 16 bytes do not fit go another way.
TEST(gpu, bf16_linear_gelu_at_any_address) {
  QM_NEEDS_GPU();
  check_forward({300, 96, 384}, 1);
  check_backward({300, 96, 384}, 1);
}

/// The derivative where there is next to none, or no number.
TEST(gpu, bf16_linear_gelu_backward_of_extreme_numbers) {
  QM_NEEDS_GPU();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<double> v{kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN(), 9, -9, 1024, -1024, 0};
  const Tensor pre = on_gpu(Tensor::from(v, {1, 8}), DType::kBFloat16, 0), grad_pre = empty_on_gpu({1, 8}, 0);
  const Tensor ones = on_gpu(Tensor::from(std::vector<double>(16, 1.0), {1, 16}), DType::kBFloat16, 0);
  const Tensor weight = on_gpu(Tensor::from(std::vector<double>(128, 1.0 / 16), {16, 8}), DType::kBFloat16, 0);
  const Tensor bias = Tensor::zeros({8}, DType::kFloat32, kGpu);
  gelu_linear_backward<bfloat16>(
      pre.stream(), {.rows = 1, .in = 8, .out = 16, .grad_y = ones.data<bfloat16>(), .weight = weight.data<bfloat16>(),
                     .pre = pre.data<bfloat16>(), .bias = bias.data<float>(), .grad_pre = grad_pre.data<bfloat16>(),
                     .grad_bias = nullptr});
  const std::vector<double> grad = doubles_of(grad_pre), expected{1, 0, 0, 1, 0, 1, 0, 0.5};
  for (std::size_t i = 0; i < v.size(); ++i) {
    if (std::isnan(v[i])) {
      EXPECT_TRUE(std::isnan(grad[i]));
    } else {
      EXPECT_NEAR(grad[i], expected[i], 1e-4) << "at " << v[i];
    }
  }
}

}  // namespace
}  // namespace qm::test
