#include "layers/modules.h"

#include <gtest/gtest.h>

#include "autograd/ops/bias_gelu.h"
#include "autograd/ops/layer_norm.h"
#include "autograd/ops/linear.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

/// Allocates, and gives every parameter values of its own.
void fill(ParameterStore& store) {
  store.allocate(DType::kFloat64, Device{}, 1);
  for (const auto& parameter : store.list()) {
    parameter.tensor.copy_from(random_tensor(parameter.shape, 10 + static_cast<std::uint64_t>(parameter.offset)));
  }
}

void expect_near(const Tensor& actual, const Tensor& expected) {
  ASSERT_EQ(actual.shape(), expected.shape());
  for (std::int64_t i = 0; i < actual.count(); ++i) {
    EXPECT_NEAR(actual.data<double>()[i], expected.data<double>()[i], 1e-14) << i;
  }
}

TEST(layers, modules_mlp) {
  ParameterStore store;
  const Mlp mlp(Scope(store), 3);
  fill(store);
  const auto parameter = [&](const char* name) { return store.find(name)->tensor; };
  const Tensor x = random_tensor({2, 3}, 1);
  const Tensor hidden = bias_gelu(linear(x, parameter("fc1.weight"), parameter("fc1.bias")), Tensor());
  ASSERT_EQ(hidden.shape(), (Shape{2, 12}));
  expect_near(mlp(x), linear(hidden, parameter("fc2.weight"), parameter("fc2.bias")));
}

TEST(layers, modules_residual_adds_its_branch_where_one_is_pending) {
  ParameterStore store;
  const LayerNorm norm(Scope(store), 4);
  fill(store);
  const Tensor stream = random_tensor({2, 3, 4}, 1), branch = random_tensor({2, 3, 4}, 2);
  Tensor sum = stream.clone();
  for (std::int64_t i = 0; i < sum.count(); ++i) sum.data<double>()[i] += branch.data<double>()[i];

  expect_near(close({stream, branch, {}}), sum);
  expect_near(norm(Residual{stream, branch, {}}).stream, sum);
  expect_near(norm(Residual{stream, branch, {}}).y, norm(sum));

  EXPECT_EQ(close({stream, {}, {}}).raw(), stream.raw()) << "nothing to add, nothing to copy";
  EXPECT_EQ(norm(Residual{stream, {}, {}}).stream.raw(), stream.raw());
  expect_near(norm(Residual{stream, {}, {}}).y, norm(stream));
}

}  // namespace
}  // namespace qm
