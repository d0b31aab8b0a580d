#include "autograd/optim/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/tensors.h"
#include "tests/support/thread_count.h"

namespace qm {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void expect_values(const Tensor& actual, const std::vector<double>& expected) {
  const auto values = values_of(actual);
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-15) << i;
}

/// Three parameters with weight decay, weight decay and none; clip 1, with EMA.
struct Example {
  Tensor parameters = doubles({3}, {1, -2, 0.5});
  Tensor gradients = filled({3}, 0);
  AdamW optimizer{{.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.05, .clip_norm = 1, .ema = true},
                  parameters,
                  gradients,
                  {{0, 2, true}, {2, 1, false}}};

  void step(std::uint32_t number, const std::vector<double>& gradient, double rate, double ema_decay,
            const Tensor& loss = Tensor()) {
    gradients.copy_from(doubles({3}, gradient));
    StepRecord record{.step = number, .learning_rate = rate, .ema_decay = ema_decay};
    optimizer.correct_bias(record);
    optimizer.step(&record, loss);
  }
};

// Step 1: ‖(3, 0, −4)‖ = 5, so gradients shrink to some (0.6, 0, −0.8). The first bias-corrected update is lr · sign(g)
// but for ε: 1 · (1 − 0.1 · 0.05) − 0.1, −2 · 0.995, 0.5 + 0.1. Moments: 0.1 g and 0.001 g². EMA half way. Step 2: norm
// 0.3, no clipping; the numbers come from MODEL.md's formulas in another program.
TEST(autograd, adamw_hand_computed_steps) {
  Example example;
  example.step(0, {3, 0, -4}, 0.1, 0.5);
  EXPECT_EQ(values_of(example.optimizer.grad_norm())[0], 5);
  const double first = 0.6 / (1 + 2e-7), third = 0.8 / (1 + 2e-7);  // 5 + 1e-6 is 5 (1 + 2e-7)
  expect_values(example.parameters, {0.995 - 0.1 * first / (first + 1e-8), -1.99, 0.5 + 0.1 * third / (third + 1e-8)});
  expect_values(example.optimizer.exp_avg(), {0.1 * first, 0, -0.1 * third});
  expect_values(example.optimizer.exp_avg_sq(), {0.001 * first * first, 0, 0.001 * third * third});
  expect_values(example.optimizer.ema(), {0.9475000008333334, -1.995, 0.5499999993749999});

  example.step(1, {0.1, -0.2, 0.2}, 0.05, 0.75);
  EXPECT_NEAR(values_of(example.optimizer.grad_norm())[0], 0.3, 1e-15);
  expect_values(example.parameters, {0.8535961341482892, -1.9478181614519139, 0.6234734048256749});
  expect_values(example.optimizer.exp_avg(), {0.06399998920000215, -0.02, -0.05199998560000287});
  expect_values(example.optimizer.exp_avg_sq(), {0.0003696398561440436, 4e-5, 0.0006793597442560772});
  expect_values(example.optimizer.ema(), {0.9240240341620725, -1.9832045403629786, 0.5683683507376687});
  EXPECT_EQ(example.optimizer.not_finite().to_vector<std::int32_t>()[0], 0);
}

TEST(autograd, adamw_without_clip_or_ema) {
  const Tensor parameters = doubles({1}, {1}), gradients = doubles({1}, {100});
  AdamW optimizer({.weight_decay = 0, .clip_norm = 0, .ema = false}, parameters, gradients, {{0, 1, true}});
  EXPECT_FALSE(optimizer.ema().defined());
  StepRecord record{.step = 0, .learning_rate = 0.5};
  optimizer.correct_bias(record);
  optimizer.step(&record, Tensor());
  expect_values(parameters, {1 - 0.5 * 100 / (100 + 1e-8)});
  EXPECT_NEAR(values_of(optimizer.exp_avg())[0], 10, 1e-13);  // 0.1 · 100, not clipped
}

// A gradient or loss that is not a number changes nothing but the flag, and neither do good steps after it.
TEST(autograd, adamw_does_nothing_once_something_is_not_finite) {
  struct Trouble {
    std::vector<double> gradient;
    Tensor loss;
  };
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Trouble& trouble :
       {Trouble{{1, kNan, 1}, Tensor()}, Trouble{{1, -infinity, 1}, doubles({1}, {1})},
        Trouble{{1, 1, 1}, doubles({1}, {kNan})}, Trouble{{1, 1, 1}, doubles({1}, {infinity})}}) {
    Example example;
    example.step(0, {1, 2, 3}, 0.1, 0.5, doubles({1}, {2.5}));
    const AdamW& optimizer = example.optimizer;
    const auto state = [&] {
      return std::vector{values_of(example.parameters), values_of(optimizer.exp_avg()),
                         values_of(optimizer.exp_avg_sq()), values_of(optimizer.ema())};
    };
    const auto before = state();
    EXPECT_EQ(optimizer.not_finite().to_vector<std::int32_t>()[0], 0);
    example.step(1, trouble.gradient, 0.1, 0.5, trouble.loss);
    EXPECT_EQ(state(), before);
    EXPECT_EQ(optimizer.not_finite().to_vector<std::int32_t>()[0], 2);  // the second step
    example.step(2, {1, 2, 3}, 0.1, 0.5, doubles({1}, {2.5}));
    EXPECT_EQ(state(), before) << "the flag is sticky";
  }
}

TEST(autograd, adamw_bias_corrections) {
  const Tensor none = filled({1}, 0);
  const AdamW optimizer({.beta1 = 0.9, .beta2 = 0.999}, none, none.clone(), {{0, 1, false}});
  StepRecord record{.step = 1};
  optimizer.correct_bias(record);
  EXPECT_NEAR(record.bias_correction1, 0.19, 1e-15);
  EXPECT_NEAR(record.bias_correction2, 0.001999, 1e-15);
}

// Padding between parameters belongs to no segment and stays as it is.
TEST(autograd, adamw_touches_segments_only) {
  const Tensor parameters = filled({4}, 1), gradients = filled({4}, 1);
  AdamW optimizer({.weight_decay = 0.5, .ema = true}, parameters, gradients, {{0, 1, true}, {3, 1, false}});
  StepRecord record{.learning_rate = 0.1};
  optimizer.correct_bias(record);
  optimizer.step(&record, Tensor());
  EXPECT_EQ(values_of(parameters)[1], 1);
  EXPECT_EQ(values_of(parameters)[2], 1);
  EXPECT_EQ(values_of(optimizer.exp_avg())[1], 0);
  EXPECT_LT(values_of(parameters)[0], values_of(parameters)[3]);
}

TEST(autograd, adamw_threads) {
  constexpr std::int64_t kCount = 200001;
  const auto run = [](int threads) {
    const ThreadCount count(threads);
    const Tensor parameters = random_tensor({kCount}, 1), gradients = random_tensor({kCount}, 2);
    AdamW optimizer({.clip_norm = 5, .ema = true}, parameters, gradients, {{0, 150000, true}, {150000, 50001, false}});
    StepRecord record{.learning_rate = 0.1, .ema_decay = 0.9};
    optimizer.correct_bias(record);
    optimizer.step(&record, Tensor());
    return std::vector{values_of(parameters), values_of(optimizer.ema()), values_of(optimizer.grad_norm())};
  };
  EXPECT_EQ(run(1), run(2));
}

TEST(autograd, adamw_names_gradients_of_another_size) {
  try {
    AdamW({}, filled({3}, 0), filled({4}, 0), {});
    FAIL() << "accepted four gradients for three parameters";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "adamw: expected gradients of shape (3), got (4)");
  }
}

}  // namespace
}  // namespace qm
