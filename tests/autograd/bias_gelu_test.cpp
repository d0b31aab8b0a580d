#include "autograd/ops/bias_gelu.h"

#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

// gelu(v) = v Φ(v): Φ(0) = ½, Φ(1) = 0.8413447460685429, Φ(−1) = 1 − Φ(1), Φ(2) = 0.9772498680518208. The tanh form
// would give gelu(1) = 0.84119.
TEST(autograd, bias_gelu_hand_computed) {
  const double at_one = 0.8413447460685429, at_two = 2 * 0.9772498680518208;
  const std::vector<double> expected{0, at_one, at_one - 1, at_two};
  const auto plain = values_of(bias_gelu(doubles({4}, {0, 1, -1, 2}), Tensor()));
  const auto biased = values_of(bias_gelu(doubles({2, 2}, {1, 3, 0, 4}), doubles({2}, {-1, -2})));
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(plain[i], expected[i], 1e-15);
    EXPECT_NEAR(biased[i], expected[i], 1e-15);
  }
}

TEST(autograd, bias_gelu_keeps_the_tails) {
  const auto y = values_of(bias_gelu(doubles({4}, {40, -40, 1e4, -1e4}), Tensor()));
  EXPECT_EQ(y, (std::vector<double>{40, 0, 1e4, 0}));
}

TEST(autograd, bias_gelu_gradients) {
  for (const Shape& shape : {Shape{1, 1}, Shape{7, 3}, Shape{2, 3, 2, 5}}) {
    const Tensor x = random_tensor(shape, 1, -3, 3), bias = random_tensor({shape.back()}, 2);
    EXPECT_TRUE(gradients_match({{"x", x}, {"bias", bias}}, [&] { return std::vector{bias_gelu(x, bias)}; }));
    EXPECT_TRUE(gradients_match({{"x", x}}, [&] { return std::vector{bias_gelu(x, Tensor())}; }));
  }
}

TEST(autograd, bias_gelu_threads) {
  const Tensor x = random_tensor({333, 7}, 1), bias = random_tensor({7}, 2);
  EXPECT_TRUE(independent_of_threads({{"x", x}, {"bias", bias}}, [&] { return std::vector{bias_gelu(x, bias)}; }));
}

}  // namespace
}  // namespace qm
