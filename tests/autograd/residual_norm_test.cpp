#include "autograd/ops/residual_norm.h"

#include <cmath>

#include "autograd/ops/layer_norm.h"
#include "kernels/noise.h"
#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

constexpr float kRate = 0.5f;

std::vector<Tensor> outputs_of(const ResidualNorm& result) {
  return result.y.defined() ? std::vector{result.stream, result.y} : std::vector{result.stream};
}

/// A record under which of eight samples some drop and some stay.
StepRecord mixed_record() {
  StepRecord record{.seed = 5, .step = 3};
  int dropped = 0;
  for (std::uint32_t row = 0; row < 8; ++row) dropped += drop_path_scale(&record, 2, kRate, row) == 0;
  QM_CHECK(dropped > 1 && dropped < 7, Error, dropped, " of 8 samples drop: choose another seed");
  return record;
}

// stream (1, 2), branch (3, −1): sum (4, 1), mean 2.5, deviations ±1.5, variance 2.25.
TEST(autograd, residual_norm_hand_computed) {
  const Tensor stream = doubles({1, 1, 2}, {1, 2}), branch = doubles({1, 1, 2}, {3, -1});
  const auto result = residual_norm(stream, branch, {}, doubles({2}, {2, 1}), doubles({2}, {0, 10}));
  EXPECT_EQ(values_of(result.stream), (std::vector<double>{4, 1}));
  const double normalized = 1.5 / std::sqrt(2.25 + 1e-5);
  EXPECT_NEAR(values_of(result.y)[0], 2 * normalized, 1e-14);
  EXPECT_NEAR(values_of(result.y)[1], 10 - normalized, 1e-14);
  EXPECT_FALSE(residual_norm(stream, branch, {}, Tensor(), Tensor()).y.defined());
}

TEST(autograd, residual_norm_drops_whole_samples_and_scales_the_others) {
  const StepRecord record = mixed_record();
  const Tensor stream = filled({8, 3, 2}, 1), branch = filled({8, 3, 2}, 10);
  const auto sum = values_of(residual_norm(stream, branch, {&record, 2, kRate}, Tensor(), Tensor()).stream);
  for (std::size_t i = 0; i < sum.size(); ++i) {
    EXPECT_EQ(sum[i], 1 + 10 * drop_path_scale(&record, 2, kRate, static_cast<std::uint32_t>(i / 6))) << i;
  }
  const auto kept = values_of(residual_norm(stream, branch, {nullptr, 2, kRate}, Tensor(), Tensor()).stream);
  EXPECT_EQ(kept, std::vector<double>(48, 11.0));
}

TEST(autograd, residual_norm_gradients) {
  const StepRecord record = mixed_record();
  for (const DropPathSite& site : {DropPathSite{}, DropPathSite{&record, 2, kRate}}) {
    for (const Shape& shape : {Shape{8, 3}, Shape{8, 2, 3, 5}}) {
      const Tensor stream = random_tensor(shape, 1), branch = random_tensor(shape, 2);
      const Tensor weight = random_tensor({shape.back()}, 3), bias = random_tensor({shape.back()}, 4);
      const std::vector<NamedTensor> all{{"stream", stream}, {"branch", branch}, {"weight", weight}, {"bias", bias}};
      const auto both = [&] { return residual_norm(stream, branch, site, weight, bias); };
      EXPECT_TRUE(gradients_match(all, [&] { return outputs_of(both()); }));
      // One output alone: the other has no gradient.
      EXPECT_TRUE(gradients_match(all, [&] { return std::vector{both().y}; }));
      EXPECT_TRUE(gradients_match(all, [&] { return std::vector{both().stream}; }));
      EXPECT_TRUE(gradients_match({{"branch", branch}}, [&] { return outputs_of(both()); }));
      EXPECT_TRUE(gradients_match({{"stream", stream}, {"branch", branch}},
                                  [&] { return outputs_of(residual_norm(stream, branch, site, Tensor(), Tensor())); }));
    }
  }
}

TEST(autograd, residual_norm_is_layer_norm_of_the_sum) {
  const Tensor stream = random_tensor({2, 3, 4}, 1), branch = random_tensor({2, 3, 4}, 2);
  const Tensor weight = random_tensor({4}, 3), bias = random_tensor({4}, 4);
  const auto result = residual_norm(stream, branch, {}, weight, bias);
  EXPECT_EQ(values_of(result.y), values_of(layer_norm(result.stream, weight, bias)));
}

TEST(autograd, residual_norm_threads) {
  const StepRecord record = mixed_record();
  const Tensor stream = random_tensor({8, 41, 3}, 1), branch = random_tensor({8, 41, 3}, 2);
  const Tensor weight = random_tensor({3}, 3), bias = random_tensor({3}, 4);
  EXPECT_TRUE(independent_of_threads({{"stream", stream}, {"branch", branch}, {"weight", weight}, {"bias", bias}}, [&] {
    return outputs_of(residual_norm(stream, branch, {&record, 2, kRate}, weight, bias));
  }));
}

TEST(autograd, residual_norm_rejects_a_rate_of_one) {
  const Tensor x = filled({1, 1, 2}, 0);
  EXPECT_THROW(residual_norm(x, x, {nullptr, 0, 1.0f}, Tensor(), Tensor()), ShapeError);
}

}  // namespace
}  // namespace qm
