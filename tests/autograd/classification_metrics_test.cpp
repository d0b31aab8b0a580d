#include "autograd/ops/classification_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "tests/support/tensors.h"

namespace qm {
namespace {

// Seven classes. Row 0: the label is the largest. Row 1: fifth. Row 2: sixth, so in neither. Row 3: padding.
TEST(autograd, classification_metrics_ranks_and_padding) {
  const Tensor logits = doubles({4, 7}, {9, 1, 2, 3, 4, 5, 6,  //
                                         7, 6, 5, 4, 3, 2, 1,  //
                                         7, 6, 5, 4, 3, 2, 1,  //
                                         9, 1, 2, 3, 4, 5, 6});
  const Tensor sums = filled({4}, 0);
  add_classification_metrics(logits, integers({0, 4, 5, -1}), sums);
  EXPECT_EQ(values_of(sums)[1], 1);
  EXPECT_EQ(values_of(sums)[2], 2);
  EXPECT_EQ(values_of(sums)[3], 3);
}

// Equal logits are ranked by their index, so a constant output scores the share of label 0, not 100 %.
TEST(autograd, classification_metrics_ties) {
  const Tensor sums = filled({4}, 0);
  add_classification_metrics(filled({7, 7}, 2), integers({0, 1, 2, 3, 4, 5, 6}), sums);
  EXPECT_NEAR(values_of(sums)[0], 7 * std::log(7.0), 1e-13);
  EXPECT_EQ(values_of(sums)[1], 1);
  EXPECT_EQ(values_of(sums)[2], 5);
  EXPECT_EQ(values_of(sums)[3], 7);
}

// Logits (0, ln 3) give p = (¼, ¾): cross-entropies ln 4 and ln 4/3. The sums run on over batches; with two classes
// every label is among the first five.
TEST(autograd, classification_metrics_loss_adds_up_over_batches) {
  const Tensor logits = doubles({1, 2}, {0, std::log(3.0)}), sums = filled({4}, 0);
  add_classification_metrics(logits, integers({0}), sums);
  EXPECT_NEAR(values_of(sums)[0], 2 * std::numbers::ln2, 1e-15);
  add_classification_metrics(logits, integers({1}), sums);
  EXPECT_NEAR(values_of(sums)[0], std::log(16.0 / 3), 1e-15);
  EXPECT_EQ(values_of(sums)[1], 1);
  EXPECT_EQ(values_of(sums)[2], 2);
  EXPECT_EQ(values_of(sums)[3], 2);
}

TEST(autograd, classification_metrics_survives_large_logits) {
  const Tensor sums = filled({4}, 0);
  add_classification_metrics(doubles({1, 2}, {1e5, -1e5}), integers({1}), sums);
  EXPECT_EQ(values_of(sums)[0], 2e5);
}

// A network that computes NaNs has not recognised anything. Row 0: at the label. Row 1: elsewhere, which costs one place.
TEST(autograd, classification_metrics_nan_is_no_hit) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor sums = filled({4}, 0);
  add_classification_metrics(doubles({2, 3}, {nan, 1, 2,  //
                                              3, nan, 1}), integers({0, 0}), sums);
  EXPECT_EQ(values_of(sums)[1], 0);
  EXPECT_EQ(values_of(sums)[2], 1);
  EXPECT_EQ(values_of(sums)[3], 2);
}

TEST(autograd, classification_metrics_errors_name_shapes) {
  try {
    add_classification_metrics(filled({2, 3}, 0), integers({0, 1, 2}), filled({4}, 0));
    FAIL() << "accepted three labels for two rows";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "classification_metrics: expected labels of shape (2), got (3)");
  }
}

}  // namespace
}  // namespace qm
