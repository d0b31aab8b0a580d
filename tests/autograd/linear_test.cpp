#include "autograd/ops/linear.h"

#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

// x = (1, 2), (3, −1);  W rows (1, 0), (2, −1), (0, 3);  b = (0.5, 0, −1):
//   (1, 2)  → 1 + 0.5, 2 − 2, 6 − 1;   (3, −1) → 3 + 0.5, 6 + 1, −3 − 1
TEST(autograd, linear_hand_computed) {
  const Tensor x = doubles({2, 2}, {1, 2, 3, -1});
  const Tensor weight = doubles({3, 2}, {1, 0, 2, -1, 0, 3});
  EXPECT_EQ(values_of(linear(x, weight, doubles({3}, {0.5, 0, -1}))), (std::vector<double>{1.5, 0, 5, 3.5, 7, -4}));
  EXPECT_EQ(values_of(linear(x, weight, Tensor())), (std::vector<double>{1, 0, 6, 3, 7, -3}));
}

TEST(autograd, linear_gradients) {
  for (const Shape& shape : {Shape{5}, Shape{1, 5}, Shape{2, 3, 5}, Shape{2, 3, 2, 5}}) {
    const Tensor x = random_tensor(shape, 1), weight = random_tensor({4, 5}, 2), bias = random_tensor({4}, 3);
    EXPECT_TRUE(gradients_match({{"x", x}, {"weight", weight}, {"bias", bias}},
                                [&] { return std::vector{linear(x, weight, bias)}; }));
    EXPECT_TRUE(
        gradients_match({{"x", x}, {"weight", weight}}, [&] { return std::vector{linear(x, weight, Tensor())}; }));
  }
}

// Backward adds ∂x of the second to what the first has left, in the product.
TEST(autograd, linear_gradients_of_an_input_used_twice) {
  const Tensor x = random_tensor({3, 5}, 1), first = random_tensor({4, 5}, 2), second = random_tensor({2, 5}, 3);
  EXPECT_TRUE(gradients_match({{"x", x}, {"first", first}, {"second", second}}, [&] {
    return std::vector{linear(x, first, Tensor()), linear(x, second, Tensor())};
  }));
}

TEST(autograd, linear_gradients_of_one_input_alone) {
  const Tensor x = random_tensor({3, 5}, 1), weight = random_tensor({1, 5}, 2), bias = random_tensor({1}, 3);
  const TensorFunction function = [&] { return std::vector{linear(x, weight, bias)}; };
  EXPECT_TRUE(gradients_match({{"x", x}}, function));
  EXPECT_TRUE(gradients_match({{"weight", weight}}, function));
  EXPECT_TRUE(gradients_match({{"bias", bias}}, function));
}

// The sums over 300 rows and 40 channels lie in OpenBLAS: their order may follow the threads, their value may not.
TEST(autograd, linear_threads) {
  const Tensor x = random_tensor({300, 40}, 1), weight = random_tensor({70, 40}, 2), bias = random_tensor({70}, 3);
  EXPECT_TRUE(independent_of_threads(
      {{"x", x}, {"weight", weight}, {"bias", bias}}, [&] { return std::vector{linear(x, weight, bias)}; }, 1e-13));
}

TEST(autograd, linear_errors_name_shapes) {
  const auto message = [](const Tensor& x, const Tensor& weight, const Tensor& bias) -> std::string {
    try {
      linear(x, weight, bias);
    } catch (const ShapeError& error) {
      return error.what();
    }
    return "none";
  };
  const Tensor weight = filled({4, 5}, 0);
  EXPECT_EQ(message(filled({2, 3}, 0), weight, Tensor()), "linear: expected x with 5 channels, got (2, 3)");
  EXPECT_EQ(message(filled({2, 5}, 0), filled({4}, 0), Tensor()), "linear: expected weight with 2 axes, got (4)");
  EXPECT_EQ(message(filled({2, 5}, 0), weight, filled({5}, 0)), "linear: expected bias of shape (4), got (5)");
}

}  // namespace
}  // namespace qm
