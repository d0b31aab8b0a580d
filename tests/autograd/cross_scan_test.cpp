#include "autograd/ops/cross_scan.h"

#include <cmath>
#include <numbers>

#include "tests/support/gradient_check.h"
#include "tests/support/scan_reference.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

constexpr std::int64_t kChannels = 3;

struct CrossCase {
  std::int64_t batch, height, width, states, rank;
};
constexpr CrossCase kCases[] = {{1, 1, 1, 1, 1}, {2, 3, 5, 1, 2}, {2, 4, 3, 4, 1}, {1, 1, 5, 1, 3}, {1, 6, 1, 2, 1}};

struct Operands {
  Tensor x, projection;
  CoreScanWeights weights;
};

Operands random_operands(const CrossCase& c) {
  return {random_tensor({c.batch, c.height, c.width, kChannels}, 1),
          random_tensor({c.batch, c.height, c.width, 4 * (c.rank + 2 * c.states)}, 2),
          {.dt_projs_weight = random_tensor({4, kChannels, c.rank}, 3),
           .dt_projs_bias = random_tensor({4, kChannels}, 4),
           .A_logs = random_tensor({4 * kChannels, c.states}, 5),
           .Ds = random_tensor({4 * kChannels}, 6)}};
}

std::vector<NamedTensor> named(const Operands& o) {
  return {{"x", o.x},
          {"projection", o.projection},
          {"dt_projs_weight", o.weights.dt_projs_weight},
          {"dt_projs_bias", o.weights.dt_projs_bias},
          {"A_logs", o.weights.A_logs},
          {"Ds", o.weights.Ds}};
}

TensorFunction scan_of(const Operands& o) {
  return [=] { return std::vector{cross_scan(o.x, o.projection, o.weights)}; };
}

std::string describe(const CrossCase& c) {
  return concat(c.height, "x", c.width, ", N ", c.states, ", R ", c.rank);
}

// A one at (0, 1) of a 2×3 map, Δ = ln 2 and decay ½, B = C = 1, each direction weighted by its own power of ten
// through the skip-free C. Places in row-major order: token (0, 1) is 1; in column-major order: (0,0) (1,0) (0,1) (1,1)
// (0,2) (1,2), it is 2. A direction reaches what comes after the token: z = ln 2 · Σ_k C_k 2^−distance.
TEST(autograd, cross_scan_hand_computed) {
  const Tensor x = doubles({1, 2, 3, 1}, {0, 1, 0, 0, 0, 0});
  const Tensor projection = filled({1, 2, 3, 12}, 0);
  for (int t = 0; t < 6; ++t) {
    for (int k = 0; k < 4; ++k) {
      projection.data<double>()[t * 12 + k * 3 + 1] = 1;
      projection.data<double>()[t * 12 + k * 3 + 2] = std::pow(10.0, k);
    }
  }
  const CoreScanWeights weights{filled({4, 1, 1}, 0), filled({4, 1}, 0), filled({4, 1}, 0), filled({4}, 0)};
  const auto z = values_of(cross_scan(x, projection, weights));
  const std::vector<double> expected{
      100.0 / 2 + 1000.0 / 4,  // (0, 0): before the token in both orders, 1 and 2 steps
      1111.0,                  // (0, 1): the token itself
      1.0 / 2 + 10.0 / 4,      // (0, 2): after it by 1 and 2
      1.0 / 4 + 1000.0 / 2,    // (1, 0): after it by 2 row-major, before it by 1 column-major
      1.0 / 8 + 10.0 / 2,      // (1, 1)
      1.0 / 16 + 10.0 / 8,     // (1, 2)
  };
  for (std::size_t t = 0; t < 6; ++t) EXPECT_NEAR(z[t], std::numbers::ln2 * expected[t], 1e-12) << t;
}

TEST(autograd, cross_scan_matches_the_definition) {
  for (const auto& c : kCases) {
    SCOPED_TRACE(describe(c));
    const Operands o = random_operands(c);
    const auto actual = values_of(scan_of(o)()[0]);
    const auto expected = values_of(reference_cross_scan(o.x, o.projection, o.weights));
    for (std::size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 1e-12) << i;
  }
}

TEST(autograd, cross_scan_gradients) {
  for (const auto& c : kCases) {
    SCOPED_TRACE(describe(c));
    const Operands o = random_operands(c);
    EXPECT_TRUE(gradients_match(named(o), scan_of(o)));
  }
}

TEST(autograd, cross_scan_threads) {
  const Operands o = random_operands({5, 4, 3, 2, 2});
  EXPECT_TRUE(independent_of_threads(named(o), scan_of(o)));
}

TEST(autograd, cross_scan_names_a_wrong_projection) {
  Operands o = random_operands({1, 2, 3, 1, 1});
  o.projection = filled({1, 2, 3, 11}, 0);
  try {
    scan_of(o)();
    FAIL() << "accepted a projection of 11 numbers";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "cross_scan: expected projection of shape (1, 2, 3, 12), got (1, 2, 3, 11)");
  }
}

}  // namespace
}  // namespace qm
