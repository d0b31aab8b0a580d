#include "autograd/ops/mlp.h"

#include <gtest/gtest.h>

#include "autograd/ops/bias_gelu.h"
#include "autograd/ops/linear.h"
#include "autograd/tape.h"
#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

/// Weights (w0, b0, w1, b1, …) of layers that are `widths` wide.
std::vector<Tensor> random_weights(const std::vector<std::int64_t>& widths) {
  std::vector<Tensor> weights;
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    weights.push_back(random_tensor({widths[i + 1], widths[i]}, 10 + i));
    weights.push_back(random_tensor({widths[i + 1]}, 20 + i));
  }
  return weights;
}

std::vector<MlpLayer> layers_of(const std::vector<Tensor>& weights) {
  std::vector<MlpLayer> layers;
  for (std::size_t i = 0; i < weights.size(); i += 2) layers.push_back({weights[i], weights[i + 1]});
  return layers;
}

TEST(autograd, mlp_is_linear_layers_with_gelu_between) {
  const std::vector<Tensor> w = random_weights({3, 5, 4, 2});
  const Tensor x = random_tensor({2, 4, 3}, 1);
  const Tensor hidden = bias_gelu(linear(bias_gelu(linear(x, w[0], Tensor()), w[1]), w[2], Tensor()), w[3]);
  const Tensor y = mlp(x, layers_of(w));
  EXPECT_EQ(y.shape(), (Shape{2, 4, 2}));
  EXPECT_EQ(values_of(y), values_of(linear(hidden, w[4], w[5])));
  EXPECT_EQ(values_of(mlp(x, layers_of({w[0], w[1]}))), values_of(linear(x, w[0], w[1]))) << "of one layer";
}

TEST(autograd, mlp_gradients) {
  for (const std::vector<std::int64_t>& widths : {std::vector<std::int64_t>{3, 2}, {3, 6, 3}, {4, 5, 3, 2}}) {
    const Tensor x = random_tensor({2, 3, widths.front()}, 1);
    const std::vector<Tensor> w = random_weights(widths);
    std::vector<NamedTensor> inputs{{"x", x}};
    for (std::size_t i = 0; i < w.size(); ++i) inputs.push_back({concat(i % 2 ? "bias " : "weight ", i / 2), w[i]});
    EXPECT_TRUE(gradients_match(inputs, [&] { return std::vector{mlp(x, layers_of(w))}; }));
  }
}

TEST(autograd, mlp_gradients_of_some) {
  const Tensor x = random_tensor({5, 3}, 1);
  const std::vector<Tensor> w = random_weights({3, 6, 3});
  const auto y = [&] { return std::vector{mlp(x, layers_of(w))}; };
  EXPECT_TRUE(gradients_match({{"x", x}}, y));
  for (const Tensor& one : w) EXPECT_TRUE(gradients_match({{"one", one}}, y));
}

/// x is used again beside the network, as the residual stream is: contributions add up.
TEST(autograd, mlp_adds_to_the_gradient_of_its_input) {
  const Tensor x = random_tensor({5, 3}, 1);
  const std::vector<Tensor> w = random_weights({3, 6, 3}), other = random_weights({3, 3});
  EXPECT_TRUE(gradients_match({{"x", x}}, [&] {
    return std::vector{mlp(x, layers_of(w)), linear(x, other[0], other[1])};
  }));
}

/// Its gradient comes in the shape in which the result was used.
TEST(autograd, mlp_gradients_of_a_reshaped_result) {
  const Tensor x = random_tensor({4, 3}, 1);
  const std::vector<Tensor> w = random_weights({3, 6, 3});
  for (const Shape& shape : {Shape{1, 12}, Shape{12, 1}}) {
    const std::vector<Tensor> other = random_weights({shape.back(), 2});
    const auto y = [&] { return std::vector{linear(mlp(x, layers_of(w)).reshape(shape), other[0], other[1])}; };
    EXPECT_TRUE(gradients_match(
        {{"x", x}, {"weight 0", w[0]}, {"bias 0", w[1]}, {"weight 1", w[2]}, {"bias 1", w[3]}}, y));
  }
}

TEST(autograd, mlp_of_no_rows) {
  const std::vector<Tensor> w = random_weights({3, 6, 3});
  EXPECT_EQ(mlp(Tensor::zeros({0, 3}, DType::kFloat64), layers_of(w)).shape(), (Shape{0, 3}));
}

// The sums over 300 rows lie in OpenBLAS: their order may follow the threads, their value may not.
TEST(autograd, mlp_threads) {
  const Tensor x = random_tensor({300, 9}, 1);
  const std::vector<Tensor> w = random_weights({9, 36, 9});
  EXPECT_TRUE(independent_of_threads(
      {{"x", x}, {"weight 0", w[0]}, {"bias 0", w[1]}, {"weight 1", w[2]}, {"bias 1", w[3]}},
      [&] { return std::vector{mlp(x, layers_of(w))}; }, 1e-12));
}

TEST(autograd, mlp_rejects_shapes) {
  const std::vector<Tensor> w = random_weights({3, 6, 3});
  EXPECT_THROW(mlp(random_tensor({5, 4}, 1), layers_of(w)), ShapeError);
  EXPECT_THROW(mlp(random_tensor({5, 3}, 1), {{w[0], w[1]}, {w[0], w[1]}}), ShapeError);
  EXPECT_THROW(mlp(random_tensor({5, 3}, 1), {{w[0], w[3]}}), ShapeError);
  EXPECT_THROW(mlp(random_tensor({5, 3}, 1), {{w[0], Tensor()}}), ShapeError);
  EXPECT_THROW(mlp(random_tensor({5, 3}, 1), {}), ShapeError);
}

}  // namespace
}  // namespace qm
