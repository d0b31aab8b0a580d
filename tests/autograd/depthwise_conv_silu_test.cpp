#include "autograd/ops/depthwise_conv_silu.h"

#include <cmath>

#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

double silu(double v) {
  return v / (1 + std::exp(-v));
}

// Two channels of a 2×2 map, (1, 2 / 3, 4) and ten times that. Channel 0 takes its right neighbour (tap 5), channel 1
// half of the token above (tap 1); padded to 3×4, what is beyond the map is 0.
TEST(autograd, depthwise_conv_silu_hand_computed) {
  const Tensor x = doubles({1, 2, 2, 2}, {1, 10, 2, 20, 3, 30, 4, 40});
  const Tensor weight = doubles({2, 1, 3, 3}, {0, 0, 0, 0, 0, 1, 0, 0, 0,  //
                                               0, 0.5, 0, 0, 0, 0, 0, 0, 0});
  const Tensor y = depthwise_conv_silu(x, weight, 3, 4);
  ASSERT_EQ(y.shape(), (Shape{1, 3, 4, 2}));
  std::vector<double> expected(24, 0.0);
  expected[0] = silu(2);    // (0, 0), channel 0: right neighbour 2
  expected[8] = silu(4);    // (1, 0), channel 0
  expected[9] = silu(5);    // (1, 0), channel 1: above it 10
  expected[11] = silu(10);  // (1, 1), channel 1: above it 20
  const auto actual = values_of(y);
  for (std::size_t i = 0; i < 24; ++i) EXPECT_NEAR(actual[i], expected[i], 1e-14) << i;
}

TEST(autograd, depthwise_conv_silu_gradients) {
  struct Case {
    Shape x;
    std::int64_t out_height, out_width;
  };
  for (const Case& c : {Case{{1, 1, 1, 1}, 1, 1}, Case{{2, 3, 5, 3}, 3, 5}, Case{{2, 3, 5, 3}, 4, 8},
                        Case{{1, 4, 2, 2}, 4, 4}, Case{{1, 1, 3, 2}, 4, 4}}) {
    const Tensor x = random_tensor(c.x, 1), weight = random_tensor({c.x[3], 1, 3, 3}, 2);
    EXPECT_TRUE(gradients_match({{"x", x}, {"weight", weight}}, [&] {
      return std::vector{depthwise_conv_silu(x, weight, c.out_height, c.out_width)};
    }));
  }
}

TEST(autograd, depthwise_conv_silu_threads) {
  const Tensor x = random_tensor({3, 6, 5, 7}, 1), weight = random_tensor({7, 1, 3, 3}, 2);
  EXPECT_TRUE(independent_of_threads({{"x", x}, {"weight", weight}},
                                     [&] { return std::vector{depthwise_conv_silu(x, weight, 8, 8)}; }));
}

TEST(autograd, depthwise_conv_silu_never_crops) {
  const Tensor x = filled({1, 4, 4, 1}, 0), weight = filled({1, 1, 3, 3}, 0);
  EXPECT_THROW(depthwise_conv_silu(x, weight, 3, 4), ShapeError);
}

}  // namespace
}  // namespace qm
