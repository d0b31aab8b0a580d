#include "autograd/ops/global_avg_pool.h"

#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

// Tokens (1, 10) (2, 20) / (3, 30) (6, 60): means 12/4 and 120/4.
TEST(autograd, global_avg_pool_hand_computed) {
  const Tensor y = global_avg_pool(doubles({1, 2, 2, 2}, {1, 10, 2, 20, 3, 30, 6, 60}));
  EXPECT_EQ(y.shape(), (Shape{1, 2}));
  EXPECT_EQ(values_of(y), (std::vector<double>{3, 30}));
}

TEST(autograd, global_avg_pool_gradients) {
  for (const Shape& shape : {Shape{1, 1, 1}, Shape{2, 7, 3}, Shape{3, 2, 5, 2}}) {
    const Tensor x = random_tensor(shape, 1);
    EXPECT_TRUE(gradients_match({{"x", x}}, [&] { return std::vector{global_avg_pool(x)}; }));
  }
}

TEST(autograd, global_avg_pool_threads) {
  const Tensor x = random_tensor({5, 7, 9, 3}, 1);
  EXPECT_TRUE(independent_of_threads({{"x", x}}, [&] { return std::vector{global_avg_pool(x)}; }));
}

TEST(autograd, global_avg_pool_needs_tokens) {
  EXPECT_THROW(global_avg_pool(filled({2, 3}, 0)), ShapeError);
}

}  // namespace
}  // namespace qm
