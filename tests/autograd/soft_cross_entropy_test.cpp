#include "autograd/ops/soft_cross_entropy.h"

#include <cmath>
#include <numbers>

#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

// Row 0: logits (0, 0), target (¼, ¾): −Σ t ln ½ = ln 2. Row 1: logits (0, ln 3), p = (¼, ¾), target (1, 0): ln 4.
// Scaled by ½.
TEST(autograd, soft_cross_entropy_hand_computed) {
  const Tensor logits = doubles({2, 2}, {0, 0, 0, std::log(3.0)}), targets = doubles({2, 2}, {0.25, 0.75, 1, 0});
  const Tensor loss = soft_cross_entropy(logits, targets, 0.5);
  EXPECT_EQ(loss.shape(), (Shape{1}));
  EXPECT_NEAR(values_of(loss)[0], 1.5 * std::numbers::ln2, 1e-15);
}

TEST(autograd, soft_cross_entropy_survives_large_logits) {
  const Tensor logits = doubles({1, 3}, {1e5, 0, -1e5}), targets = doubles({1, 3}, {0, 1, 0});
  EXPECT_EQ(values_of(soft_cross_entropy(logits, targets, 1))[0], 1e5);
}

// Targets that do not sum to 1 count too: the gradient's first term carries their mass.
TEST(autograd, soft_cross_entropy_gradients) {
  for (const Shape& shape : {Shape{1, 1}, Shape{1, 5}, Shape{4, 3}}) {
    const Tensor logits = random_tensor(shape, 1, -3, 3), targets = random_tensor(shape, 2, 0, 1);
    EXPECT_TRUE(
        gradients_match({{"logits", logits}}, [&] { return std::vector{soft_cross_entropy(logits, targets, 0.25)}; }));
  }
}

TEST(autograd, soft_cross_entropy_micro_batches_add_up) {
  const Tensor logits = random_tensor({4, 3}, 1), targets = random_tensor({4, 3}, 2, 0, 1);
  const double whole = values_of(soft_cross_entropy(logits, targets, 0.25))[0];
  double parts = 0;
  for (int half = 0; half < 2; ++half) {
    parts += values_of(soft_cross_entropy(logits.slice(half * 6, {2, 3}), targets.slice(half * 6, {2, 3}), 0.25))[0];
  }
  EXPECT_NEAR(parts, whole, 1e-15);
}

TEST(autograd, soft_cross_entropy_threads) {
  const Tensor logits = random_tensor({77, 11}, 1), targets = random_tensor({77, 11}, 2, 0, 1);
  EXPECT_TRUE(independent_of_threads({{"logits", logits}},
                                     [&] { return std::vector{soft_cross_entropy(logits, targets, 1.0 / 77)}; }));
}

TEST(autograd, soft_cross_entropy_names_wrong_targets) {
  try {
    soft_cross_entropy(filled({2, 3}, 0), filled({2, 4}, 0), 1);
    FAIL() << "accepted targets of another shape";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "soft_cross_entropy: expected targets of shape (2, 3), got (2, 4)");
  }
}

}  // namespace
}  // namespace qm
