#include "autograd/ops/score_pool.h"

#include <cmath>

#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

// A 2×4 map: quadrants of 1×2 tokens. Of the two channels (a, b) the score is −ln(1 + e^{b−a}).
TEST(autograd, score_pool_hand_computed) {
  const Tensor x = doubles({1, 2, 4, 2}, {0, 0, 1, 1, /**/ 2, 0, 2, 0,  //
                                          0, 3, 0, 0, /**/ 800, 0, 0, 800});
  const auto logits = values_of(score_pool(x));
  const double even = std::log(0.5);
  EXPECT_NEAR(logits[0], even, 1e-15);
  EXPECT_NEAR(logits[1], -std::log(1 + std::exp(-2)), 1e-15);
  EXPECT_NEAR(logits[2], (-std::log(1 + std::exp(3)) + even) / 2, 1e-15);
  EXPECT_NEAR(logits[3], -400, 1e-12);  // 0 and −800: neither exponential may overflow
}

TEST(autograd, score_pool_gradients) {
  for (const Shape& shape : {Shape{1, 2, 2, 2}, Shape{3, 4, 6, 2}, Shape{1, 6, 2, 2}}) {
    const Tensor x = random_tensor(shape, 1, -2, 2);
    EXPECT_TRUE(gradients_match({{"x", x}}, [&] { return std::vector{score_pool(x)}; }));
  }
}

TEST(autograd, score_pool_threads) {
  const Tensor x = random_tensor({5, 8, 6, 2}, 1);
  EXPECT_TRUE(independent_of_threads({{"x", x}}, [&] { return std::vector{score_pool(x)}; }));
}

TEST(autograd, score_pool_rejects_odd_extents) {
  EXPECT_THROW(score_pool(filled({1, 3, 4, 2}, 0)), ShapeError);
  EXPECT_THROW(score_pool(filled({1, 4, 3, 2}, 0)), ShapeError);
}

}  // namespace
}  // namespace qm
