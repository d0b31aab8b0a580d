#include "autograd/ops/gumbel_softmax.h"

#include <algorithm>
#include <cmath>

#include "kernels/noise.h"
#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

std::vector<std::int32_t> selected_of(const QuadrantChoice& choice) {
  return choice.selected.to_vector<std::int32_t>();
}

/// softmax(logits + noise), the function whose gradient the straight-through estimator takes.
std::vector<double> soft_choice(const Tensor& logits, const Tensor& noise) {
  std::vector<double> soft(static_cast<std::size_t>(logits.count()));
  for (std::size_t row = 0; row < soft.size(); row += 4) {
    double sum = 0;
    for (std::size_t q = row; q < row + 4; ++q) {
      sum += soft[q] = std::exp(logits.data<double>()[q] + noise.data<double>()[q]);
    }
    for (std::size_t q = row; q < row + 4; ++q) soft[q] /= sum;
  }
  return soft;
}

/// Compares gumbel_softmax's backward with finite differences of the soft choice under the same noise.
void expect_straight_through(const Tensor& logits, const GumbelNoise& source, const Tensor& noise) {
  const Tensor cotangent = random_tensor(logits.shape(), 77);
  const auto actual = tape_gradients({{"logits", logits}},
                                     [&] { return std::vector{gumbel_softmax(logits, source).one_hot}; }, {cotangent});
  const auto expected = numeric_gradient(logits, [&] {
    const auto soft = soft_choice(logits, noise);
    double sum = 0;
    for (std::size_t i = 0; i < soft.size(); ++i) sum += soft[i] * cotangent.data<double>()[i];
    return sum;
  });
  EXPECT_TRUE(gradients_near("logits", actual[0], expected, difference_noise(10)));
}

// Without noise the first of the largest is taken: 3 wins; 2 ties 2 and the first stays; all equal, the first.
TEST(autograd, gumbel_softmax_hand_computed) {
  const Tensor logits = doubles({3, 4}, {0, 1, 3, 2, 0, 2, 1, 2, 5, 5, 5, 5});
  const auto choice = gumbel_softmax(logits, {});
  EXPECT_EQ(selected_of(choice), (std::vector<std::int32_t>{2, 1, 0}));
  EXPECT_EQ(values_of(choice.one_hot), (std::vector<double>{0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0}));
}

TEST(autograd, gumbel_softmax_adds_the_given_noise) {
  const Tensor logits = doubles({2, 4}, {0, 1, 3, 2, 0, 0, 0, 0});
  const Tensor noise = doubles({2, 4}, {4, 0, 0, 0, 0, 0, 0.25, 0});
  const StepRecord record;
  // Given noise goes before a record's.
  const auto choice = gumbel_softmax(logits, {.noise = noise, .record = &record, .site = 0, .forced = {}});
  EXPECT_EQ(selected_of(choice), (std::vector<std::int32_t>{0, 2}));
}

TEST(autograd, gumbel_softmax_draws_noise_for_record_and_site) {
  constexpr std::int64_t kBatch = 64;
  const StepRecord record{.seed = 9, .step = 4, .first_position = 16};
  const Tensor logits = filled({kBatch, 4}, 0);
  const auto actual = selected_of(gumbel_softmax(logits, {.noise = {}, .record = &record, .site = 3, .forced = {}}));
  for (std::uint32_t row = 0; row < kBatch; ++row) {
    float noise[4];
    gumbel_noise(record, 3, row, noise);
    EXPECT_EQ(actual[row], std::max_element(noise, noise + 4) - noise) << row;
  }
  EXPECT_NE(actual, selected_of(gumbel_softmax(logits, {.noise = {}, .record = &record, .site = 4, .forced = {}})));
}

TEST(autograd, gumbel_softmax_forced_replaces_the_choice_alone) {
  const Tensor logits = random_tensor({4, 4}, 1), noise = random_tensor({4, 4}, 2);
  const GumbelNoise source{.noise = noise, .record = nullptr, .site = 0, .forced = integers({3, 2, 1, 0})};
  const auto choice = gumbel_softmax(logits, source);
  EXPECT_EQ(selected_of(choice), (std::vector<std::int32_t>{3, 2, 1, 0}));
  for (int b = 0; b < 4; ++b) EXPECT_EQ(values_of(choice.one_hot)[b * 4 + 3 - b], 1);
  expect_straight_through(logits, source, noise);
}

TEST(autograd, gumbel_softmax_gradient_is_that_of_the_soft_choice) {
  const Tensor logits = random_tensor({5, 4}, 1, -2, 2), noise = random_tensor({5, 4}, 2, -1, 3);
  expect_straight_through(logits, {}, filled({5, 4}, 0));
  expect_straight_through(logits, {.noise = noise, .record = nullptr, .site = 0, .forced = {}}, noise);

  const StepRecord record{.seed = 9, .step = 4, .first_position = 16};
  const Tensor drawn = filled({5, 4}, 0);
  for (std::uint32_t row = 0; row < 5; ++row) {
    float values[4];
    gumbel_noise(record, 3, row, values);
    for (int q = 0; q < 4; ++q) drawn.data<double>()[row * 4 + q] = values[q];
  }
  expect_straight_through(logits, {.noise = {}, .record = &record, .site = 3, .forced = {}}, drawn);
}

// On a tie the soft choice is as smooth as anywhere: ½ (1 − ½) between two equal ones that hold nearly all of the mass.
TEST(autograd, gumbel_softmax_gradient_on_ties) {
  const Tensor logits = doubles({2, 4}, {1, 1, 1, 1, 0, 3, 0, 3});
  expect_straight_through(logits, {}, filled({2, 4}, 0));
}

TEST(autograd, gumbel_softmax_survives_large_logits) {
  const Tensor logits = doubles({1, 4}, {-1e4, 1e4, 0, 9999});
  const auto gradient =
      tape_gradients({{"logits", logits}}, [&] { return std::vector{gumbel_softmax(logits, {}).one_hot}; },
                     {doubles({1, 4}, {0, 1, 0, 0})})[0];
  const double soft = 1 / (1 + std::exp(-1.0));
  const std::vector<double> expected{0, soft * (1 - soft), 0, -soft * (1 - soft)};
  for (int q = 0; q < 4; ++q) EXPECT_NEAR(gradient[q], expected[q], 1e-14);
}

TEST(autograd, gumbel_softmax_threads) {
  const StepRecord record{.seed = 9};
  const Tensor logits = random_tensor({65, 4}, 1);
  EXPECT_TRUE(independent_of_threads({{"logits", logits}}, [&] {
    return std::vector{gumbel_softmax(logits, {.noise = {}, .record = &record, .site = 0, .forced = {}}).one_hot};
  }));
}

}  // namespace
}  // namespace qm
