#include "autograd/ops/selective_scan.h"

#include <cmath>
#include <numbers>

#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

SelectiveScanInputs random_inputs(std::int64_t batch, std::int64_t length, std::int64_t directions,
                                  std::int64_t channels, std::int64_t states) {
  const std::int64_t rows = directions * channels;
  return {.u = random_tensor({batch, length, directions, channels}, 1),
          .delta = random_tensor({batch, length, directions, channels}, 2),
          .A = random_tensor({rows, states}, 3, -2, -0.1),
          .B = random_tensor({batch, length, directions, states}, 4),
          .C = random_tensor({batch, length, directions, states}, 5),
          .D = random_tensor({rows}, 6),
          .delta_bias = random_tensor({rows}, 7)};
}

std::vector<NamedTensor> named(const SelectiveScanInputs& in) {
  return {{"u", in.u}, {"delta", in.delta},          {"A", in.A}, {"B", in.B}, {"C", in.C},
          {"D", in.D}, {"delta_bias", in.delta_bias}};
}

TensorFunction scan_of(const SelectiveScanInputs& in) {
  return [in] { return std::vector{selective_scan(in)}; };
}

// delta + bias = 0 makes Δ = ln 2, and A = −1 the decay e^{−ln 2} = ½. With u = (1, 2), B = (1, 1), C = (1, 2), D = 3:
//   h = ln 2, then ½ ln 2 + 2 ln 2;   y = ln 2 + 3, then 2 · 2.5 ln 2 + 6
TEST(autograd, selective_scan_hand_computed) {
  const double ln2 = std::numbers::ln2;
  const SelectiveScanInputs in{.u = doubles({1, 2, 1, 1}, {1, 2}),
                               .delta = doubles({1, 2, 1, 1}, {-0.5, -0.5}),
                               .A = doubles({1, 1}, {-1}),
                               .B = doubles({1, 2, 1, 1}, {1, 1}),
                               .C = doubles({1, 2, 1, 1}, {1, 2}),
                               .D = doubles({1}, {3}),
                               .delta_bias = doubles({1}, {0.5})};
  const auto y = values_of(selective_scan(in));
  EXPECT_NEAR(y[0], ln2 + 3, 1e-15);
  EXPECT_NEAR(y[1], 5 * ln2 + 6, 1e-14);
}

// Two directions of two channels, each row with its own D and bias: with C = 0 only the skip is left, y = D u.
TEST(autograd, selective_scan_rows_of_directions_and_channels) {
  auto in = random_inputs(1, 2, 2, 2, 1);
  in.u = doubles({1, 2, 2, 2}, {1, 1, 1, 1, 2, 2, 2, 2});
  in.C.zero();
  in.D = doubles({4}, {1, 10, 100, 1000});
  EXPECT_EQ(values_of(selective_scan(in)), (std::vector<double>{1, 10, 100, 1000, 2, 20, 200, 2000}));
}

TEST(autograd, selective_scan_gradients) {
  for (const std::int64_t length : {1, 2, 7}) {
    for (const std::int64_t states : {1, 3, 16}) {
      SCOPED_TRACE(concat("L ", length, ", N ", states));
      const auto in = random_inputs(2, length, 2, 3, states);
      EXPECT_TRUE(gradients_match(named(in), scan_of(in)));
    }
  }
}

// Pre-activations of 19.5, 20.5, 25 and −30 lie on both sides of the threshold, further from it than the step is long.
// The jump of softplus there is 2e-9, that of its slope too. A is small, so that e^{ΔA} does not vanish.
TEST(autograd, selective_scan_gradients_around_the_threshold) {
  auto in = random_inputs(1, 4, 1, 2, 2);
  in.delta = doubles({1, 4, 1, 2}, {19, 20, 24.5, -30.5, 20, 19, -30.5, 24.5});
  in.delta_bias = doubles({2}, {0.5, 0.5});
  in.A = doubles({2, 2}, {-0.1, -0.02, -0.05, -0.2});
  EXPECT_TRUE(gradients_match(named(in), scan_of(in)));
}

// Above 20 softplus is the identity exactly, at and below it ln(1 + eˣ).
TEST(autograd, selective_scan_threshold_of_softplus) {
  auto in = random_inputs(1, 1, 1, 3, 1);
  in.u = doubles({1, 1, 1, 3}, {1, 1, 1});
  in.delta = doubles({1, 1, 1, 3}, {20, 20.25, 19.75});
  in.delta_bias.zero();
  in.B = in.C = doubles({1, 1, 1, 1}, {1});
  in.D.zero();  // y = Δ
  const auto y = values_of(selective_scan(in));
  EXPECT_EQ(y[0], 20 + std::log1p(std::exp(-20.0)));
  EXPECT_EQ(y[1], 20.25);
  EXPECT_NEAR(y[2], 19.75 + std::log1p(std::exp(-19.75)), 1e-14);
  EXPECT_GT(y[2], 19.75 + 1e-9);
}

TEST(autograd, selective_scan_stays_finite_at_extremes) {
  auto in = random_inputs(1, 3, 1, 2, 2);
  in.delta = doubles({1, 3, 1, 2}, {1000, -1000, -1000, 1000, 800, 800});
  for (const auto& gradient : tape_gradients(named(in), scan_of(in), {filled({1, 3, 1, 2}, 1)})) {
    for (const double value : gradient) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST(autograd, selective_scan_threads) {
  const auto in = random_inputs(5, 9, 2, 5, 3);
  EXPECT_TRUE(independent_of_threads(named(in), scan_of(in)));
}

}  // namespace
}  // namespace qm
