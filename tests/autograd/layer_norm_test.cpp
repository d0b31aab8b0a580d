#include "autograd/ops/layer_norm.h"

#include <cmath>

#include "autograd/ops/bias_gelu.h"
#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

// (1, 2, 6): mean 3, deviations −2, −1, 3, biased variance 14/3. (5, 5, 5): variance 0, so y is the bias.
TEST(autograd, layer_norm_hand_computed) {
  const Tensor x = doubles({2, 3}, {1, 2, 6, 5, 5, 5});
  const auto y = values_of(layer_norm(x, doubles({3}, {1, 2, -1}), doubles({3}, {0.5, 0, 7})));
  const double rstd = 1 / std::sqrt(14.0 / 3 + 1e-5);
  const std::vector<double> expected{-2 * rstd + 0.5, -2 * rstd, -3 * rstd + 7, 0.5, 0, 7};
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(y[i], expected[i], 1e-14);
}

TEST(autograd, layer_norm_gradients) {
  for (const Shape& shape : {Shape{5}, Shape{1, 2}, Shape{3, 7}, Shape{2, 3, 2, 5}}) {
    const Tensor x = random_tensor(shape, 1), weight = random_tensor({shape.back()}, 2);
    const Tensor bias = random_tensor({shape.back()}, 3);
    const TensorFunction function = [&] { return std::vector{layer_norm(x, weight, bias)}; };
    EXPECT_TRUE(gradients_match({{"x", x}, {"weight", weight}, {"bias", bias}}, function));
    EXPECT_TRUE(gradients_match({{"bias", bias}}, function));
  }
}

TEST(autograd, layer_norm_adds_to_the_gradient_that_another_use_has_left) {
  const Tensor x = random_tensor({3, 8}, 1), weight = random_tensor({8}, 2), other = random_tensor({8}, 3);
  const Tensor bias = random_tensor({8}, 4);
  EXPECT_TRUE(gradients_match({{"x", x}, {"weight", weight}, {"other", other}, {"bias", bias}}, [&] {
    const Tensor y = bias_gelu(x, bias);
    return std::vector{layer_norm(y, weight, bias), layer_norm(y, other, bias)};
  }));
}

// Inputs of 1e-3 have a variance near ε, where its place in the formula shows.
TEST(autograd, layer_norm_gradients_where_epsilon_counts) {
  const Tensor x = random_tensor({2, 4}, 1, -3e-3, 3e-3), weight = random_tensor({4}, 2), bias = random_tensor({4}, 3);
  const TensorFunction function = [&] { return std::vector{layer_norm(x, weight, bias)}; };
  const auto cotangent = random_tensor({2, 4}, 5);
  const auto gradient = tape_gradients({{"x", x}}, function, {cotangent})[0];
  // The function bends on a scale of 3e-3: scaling x by a thousand and ε by a million is the same function, and there
  // the usual step is small. y(x) = ŷ(1000 x) with ε̂ = 1e6 · 1e-5, so ∂y/∂x = 1000 ∂ŷ.
  const Tensor scaled = doubles({2, 4}, values_of(x));
  for (int i = 0; i < 8; ++i) scaled.data<double>()[i] *= 1000;
  const auto expected = numeric_gradient(scaled, [&] {
    double sum = 0;
    for (int row = 0; row < 2; ++row) {
      const double* v = scaled.data<double>() + 4 * row;
      double mean = 0, variance = 0;
      for (int c = 0; c < 4; ++c) mean += v[c] / 4;
      for (int c = 0; c < 4; ++c) variance += (v[c] - mean) * (v[c] - mean) / 4;
      for (int c = 0; c < 4; ++c) {
        sum += cotangent.data<double>()[4 * row + c] * weight.data<double>()[c] * (v[c] - mean) /
               std::sqrt(variance + 1e6 * 1e-5);
      }
    }
    return sum;
  });
  for (int i = 0; i < 8; ++i) EXPECT_NEAR(gradient[i], 1000 * expected[i], 1e-6);
}

TEST(autograd, layer_norm_threads) {
  const Tensor x = random_tensor({333, 6}, 1), weight = random_tensor({6}, 2), bias = random_tensor({6}, 3);
  EXPECT_TRUE(independent_of_threads({{"x", x}, {"weight", weight}, {"bias", bias}},
                                     [&] { return std::vector{layer_norm(x, weight, bias)}; }));
}

}  // namespace
}  // namespace qm
