#include "autograd/ops/conv2d.h"

#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

/// The definition of kernels/conv2d.h, one output at a time.
std::vector<double> reference(const Tensor& x, const Tensor& weight, const Tensor& bias, std::int64_t stride) {
  const std::int64_t batch = x.dim(0), height = x.dim(1), width = x.dim(2), in = x.dim(3), out = weight.dim(0);
  std::vector<double> y;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t i = 0; i < height; i += stride) {
      for (std::int64_t j = 0; j < width; j += stride) {
        for (std::int64_t o = 0; o < out; ++o) {
          double sum = bias.data<double>()[o];
          for (std::int64_t k = 0; k < 9 * in; ++k) {
            const std::int64_t c = k / 9, row = i + k % 9 / 3 - 1, column = j + k % 3 - 1;
            if (row < 0 || row >= height || column < 0 || column >= width) continue;
            sum += weight.data<double>()[o * 9 * in + k] *
                   x.data<double>()[((b * height + row) * width + column) * in + c];
          }
          y.push_back(sum);
        }
      }
    }
  }
  return y;
}

// The map 1 2 3 / 4 5 6 / 7 8 9 under weights that are 1 in the centre (tap 4), 10 to the right (tap 5) and 100 below
// (tap 7), with bias 0.5: the value, ten times its right neighbour and a hundred times the one below.
TEST(autograd, conv2d_hand_computed) {
  const Tensor x = doubles({1, 3, 3, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  const Tensor weight = doubles({1, 1, 3, 3}, {0, 0, 0, 0, 1, 10, 0, 100, 0});
  const Tensor bias = doubles({1}, {0.5});
  EXPECT_EQ(values_of(conv2d(x, weight, bias, 1)),
            (std::vector<double>{421.5, 532.5, 603.5, 754.5, 865.5, 906.5, 87.5, 98.5, 9.5}));
  // Stride 2 keeps the corners.
  const Tensor y = conv2d(x, weight, bias, 2);
  EXPECT_EQ(y.shape(), (Shape{1, 2, 2, 1}));
  EXPECT_EQ(values_of(y), (std::vector<double>{421.5, 603.5, 87.5, 9.5}));
}

TEST(autograd, conv2d_matches_its_definition) {
  for (const std::int64_t stride : {1, 2}) {
    for (const Shape& shape : {Shape{1, 1, 1, 2}, Shape{2, 5, 4, 3}, Shape{1, 6, 7, 1}}) {
      const Tensor x = random_tensor(shape, 1), weight = random_tensor({4, shape[3], 3, 3}, 2);
      const Tensor bias = random_tensor({4}, 3);
      const auto actual = values_of(conv2d(x, weight, bias, stride)), expected = reference(x, weight, bias, stride);
      ASSERT_EQ(actual.size(), expected.size());
      for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-14);
    }
  }
}

// 40 × 41 pixels of 96 channels are more than one block of the gathered patches.
TEST(autograd, conv2d_matches_its_definition_across_blocks) {
  const Tensor x = random_tensor({1, 40, 41, 96}, 1), weight = random_tensor({2, 96, 3, 3}, 2);
  const Tensor bias = random_tensor({2}, 3);
  const auto actual = values_of(conv2d(x, weight, bias, 1)), expected = reference(x, weight, bias, 1);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 1e-12);
}

TEST(autograd, conv2d_gradients) {
  for (const std::int64_t stride : {1, 2}) {
    for (const Shape& shape : {Shape{1, 1, 1, 2}, Shape{2, 5, 4, 3}, Shape{1, 4, 6, 2}}) {
      const Tensor x = random_tensor(shape, 1), weight = random_tensor({4, shape[3], 3, 3}, 2);
      const Tensor bias = random_tensor({4}, 3);
      EXPECT_TRUE(gradients_match({{"x", x}, {"weight", weight}, {"bias", bias}},
                                  [&] { return std::vector{conv2d(x, weight, bias, stride)}; }));
      EXPECT_TRUE(
          gradients_match({{"weight", weight}}, [&] { return std::vector{conv2d(x, weight, Tensor(), stride)}; }));
    }
  }
}

TEST(autograd, conv2d_gradients_across_blocks) {
  // A linear function of x: any other point has the same gradient, so comparing it in a few directions is enough.
  const Tensor x = random_tensor({1, 40, 41, 96}, 1), weight = random_tensor({2, 96, 3, 3}, 2);
  const Tensor cotangent = random_tensor({1, 40, 41, 2}, 4);
  const TensorFunction function = [&] { return std::vector{conv2d(x, weight, Tensor(), 1)}; };
  const auto gradients = tape_gradients({{"x", x}, {"weight", weight}}, function, {cotangent});
  const auto inner = [](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  // Euler: a function linear in each of two arguments equals its gradient's product with either.
  const double value = inner(values_of(function()[0]), values_of(cotangent));
  EXPECT_NEAR(inner(gradients[0], values_of(x)), value, 1e-10);
  EXPECT_NEAR(inner(gradients[1], values_of(weight)), value, 1e-10);
  const auto other = random_tensor(x.shape(), 5);
  EXPECT_NEAR(inner(gradients[0], values_of(other)),
              inner(values_of(conv2d(other, weight, Tensor(), 1)), values_of(cotangent)), 1e-10);
}

TEST(autograd, conv2d_threads) {
  const Tensor x = random_tensor({2, 9, 11, 8}, 1), weight = random_tensor({16, 8, 3, 3}, 2);
  const Tensor bias = random_tensor({16}, 3);
  EXPECT_TRUE(independent_of_threads(
      {{"x", x}, {"weight", weight}, {"bias", bias}}, [&] { return std::vector{conv2d(x, weight, bias, 2)}; }, 1e-13));
}

}  // namespace
}  // namespace qm
