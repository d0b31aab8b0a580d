#include "autograd/ops/quad_scan.h"

#include <cmath>
#include <numbers>

#include "tests/support/gradient_check.h"
#include "tests/support/scan_reference.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

/// Four images, so that every quadrant is the selected one of some image.
constexpr std::int64_t kBatch = 4, kChannels = 3;
const std::vector<std::int32_t> kSelected{2, 0, 3, 1};

struct QuadCase {
  std::int64_t height, width, states, rank;
  QuadScanGeometry geometry;
};

std::vector<QuadCase> cases() {
  std::vector<QuadCase> list;
  for (const FineOrder order : {FineOrder::kQuadtree, FineOrder::kWindowRaster}) {
    // No roll; the four sign patterns; uneven rolls; rolls by more than the map; with and without cropping.
    list.push_back({4, 4, 1, 1, {0, 0, order, 4, 4}});
    list.push_back({8, 4, 1, 1, {0, 0, order, 7, 3}});
    list.push_back({8, 8, 1, 1, {1, 1, order, 8, 8}});
    list.push_back({8, 8, 1, 1, {-1, -1, order, 5, 6}});
    list.push_back({4, 12, 1, 3, {1, -1, order, 4, 10}});
    list.push_back({12, 4, 2, 1, {-1, 1, order, 11, 4}});
    list.push_back({4, 8, 2, 3, {3, -5, order, 2, 7}});
    list.push_back({8, 4, 1, 1, {-9, 6, order, 8, 4}});
  }
  return list;
}

std::string describe(const QuadCase& c) {
  return concat(c.geometry.fine_order == FineOrder::kQuadtree ? "quadtree " : "window_raster ", c.height, "x", c.width,
                " to ", c.geometry.out_height, "x", c.geometry.out_width, ", roll ", c.geometry.roll_h, ",",
                c.geometry.roll_w, ", N ", c.states, ", R ", c.rank);
}

struct Operands {
  Tensor x, projection;
  CoreScanWeights weights;
  QuadrantChoice choice;
};

QuadrantChoice choose(const std::vector<std::int32_t>& selected) {
  const Tensor one_hot = filled({static_cast<std::int64_t>(selected.size()), 4}, 0);
  for (std::size_t b = 0; b < selected.size(); ++b) one_hot.data<double>()[b * 4 + selected[b]] = 1;
  return {one_hot, integers(selected)};
}

CoreScanWeights random_weights(std::int64_t states, std::int64_t rank) {
  return {.dt_projs_weight = random_tensor({2, kChannels, rank}, 3),
          .dt_projs_bias = random_tensor({2, kChannels}, 4),
          .A_logs = random_tensor({2 * kChannels, states}, 5),
          .Ds = random_tensor({2 * kChannels}, 6)};
}

Operands random_operands(const QuadCase& c) {
  return {random_tensor({kBatch, c.height, c.width, kChannels}, 1),
          random_tensor({kBatch, c.height, c.width, 2 * (c.rank + 2 * c.states)}, 2), random_weights(c.states, c.rank),
          choose(kSelected)};
}

std::vector<NamedTensor> named(const Operands& o) {
  return {{"x", o.x},
          {"projection", o.projection},
          {"dt_projs_weight", o.weights.dt_projs_weight},
          {"dt_projs_bias", o.weights.dt_projs_bias},
          {"A_logs", o.weights.A_logs},
          {"Ds", o.weights.Ds}};
}

TensorFunction scan_of(const Operands& o, const QuadScanGeometry& geometry) {
  return [=] { return std::vector{quad_scan(o.x, o.projection, o.choice, o.weights, geometry)}; };
}

/// One channel with Δ = ln 2 (pre-activation 0) and decay ½ in both directions, C = 1, no skip.
CoreScanWeights halving_weights() {
  return {.dt_projs_weight = filled({2, 1, 1}, 0),
          .dt_projs_bias = filled({2, 1}, 0),
          .A_logs = filled({2, 1}, 0),
          .Ds = filled({2}, 0)};
}

// A map of 8×4 has quadrants of 4×2 and sub-quadrants of 2×1. A one at (0, 0), B = C = 1 and halving make
// z_t = ln 2 · 2^−distance in the sequence. In the selected quadrant the fine order runs (0,0) (1,0) | (0,1) (1,1) |
// (2,0) (3,0) | …; elsewhere the coarse one (0,0) (0,1) (1,0) (1,1) (2,0) …
TEST(autograd, quad_scan_hand_computed_quadtree) {
  const Tensor x = filled({2, 8, 4, 1}, 0), projection = filled({2, 8, 4, 6}, 1);
  x.data<double>()[0] = x.data<double>()[32] = 1;
  const QuadScanGeometry geometry{0, 0, FineOrder::kQuadtree, 8, 4};
  const auto z = values_of(quad_scan(x, projection, choose({0, 3}), halving_weights(), geometry));
  const auto distance = [&](int image, int i, int j) {
    return -std::log2(z[static_cast<std::size_t>(image * 32 + i * 4 + j)] / std::numbers::ln2);
  };
  EXPECT_NEAR(z[0], 2 * std::numbers::ln2, 1e-15);  // both directions see the token itself
  EXPECT_NEAR(distance(0, 1, 0), 1, 1e-12);
  EXPECT_NEAR(distance(0, 0, 1), 2, 1e-12);
  EXPECT_NEAR(distance(0, 3, 0), 5, 1e-12);
  EXPECT_NEAR(distance(0, 0, 2), 8, 1e-12);  // the next quadrant begins
  EXPECT_NEAR(distance(1, 0, 1), 1, 1e-12);
  EXPECT_NEAR(distance(1, 1, 0), 2, 1e-12);
  EXPECT_NEAR(distance(1, 3, 0), 6, 1e-12);
  EXPECT_NEAR(distance(1, 4, 2), 24, 1e-12);  // quadrant 3, whose fine order starts with (4,2) (5,2)
  EXPECT_NEAR(distance(1, 5, 2), 25, 1e-12);
  EXPECT_NEAR(distance(1, 4, 3), 26, 1e-12);
}

// On a 4×4 map every sub-window is a token, and window_raster's fine position of (i, j) is 4i + j. Quadrant 1,
// selected, goes to positions 2, 3, 6, 7; quadrant 0's tokens lie at 0 … 3, so (1, 0) meets (0, 2) at 2 and (1, 1)
// meets (0, 3) at 3. With C = 0 and skips of 1 and 2, y = 3 s.
TEST(autograd, quad_scan_hand_computed_window_raster) {
  const Tensor x = doubles({1, 4, 4, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  CoreScanWeights weights = halving_weights();
  weights.Ds = doubles({2}, {1, 2});
  const Tensor no_states = filled({1, 4, 4, 6}, 0);
  const auto z = values_of(quad_scan(x, no_states, choose({1}), weights, {0, 0, FineOrder::kWindowRaster, 4, 4}));
  const double met2 = 3 * (5 + 3), met3 = 3 * (6 + 4);
  EXPECT_EQ(z, (std::vector<double>{3, 6, met2, met3, met2, met3, 21, 24, 27, 30, 33, 36, 39, 42, 45, 48}));
}

// Positive rolls move towards larger indices. A roll by (1, 0) brings row 3 of a 4×4 map to row 0, quadrant 0 and 1,
// and the sequence begins with (3,0) (3,1) (0,0) (0,1): from a one at (3, 0), the next tokens are 1, 2 and 3 steps
// away.
TEST(autograd, quad_scan_hand_computed_roll) {
  const Tensor x = filled({1, 4, 4, 1}, 0), projection = filled({1, 4, 4, 6}, 1);
  x.data<double>()[12] = 1;
  const auto z =
      values_of(quad_scan(x, projection, choose({2}), halving_weights(), {1, 0, FineOrder::kQuadtree, 4, 4}));
  EXPECT_NEAR(z[12], 2 * std::numbers::ln2, 1e-15);
  EXPECT_NEAR(z[13], std::numbers::ln2 / 2, 1e-15);
  EXPECT_NEAR(z[0], std::numbers::ln2 / 4, 1e-15);
  EXPECT_NEAR(z[1], std::numbers::ln2 / 8, 1e-15);
}

TEST(autograd, quad_scan_matches_the_dense_definition) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(describe(c));
    const Operands o = random_operands(c);
    const Tensor actual = scan_of(o, c.geometry)()[0];
    const Tensor expected = reference_quad_scan(o.x, o.projection, o.choice.one_hot, o.weights, c.geometry);
    ASSERT_EQ(actual.shape(), expected.shape());
    for (std::int64_t i = 0; i < actual.count(); ++i) {
      ASSERT_NEAR(actual.data<double>()[i], expected.data<double>()[i], 1e-12) << i;
    }
  }
}

TEST(autograd, quad_scan_gradients) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(describe(c));
    const Operands o = random_operands(c);
    EXPECT_TRUE(gradients_match(named(o), scan_of(o, c.geometry)));
  }
}

// The op itself does not read the one-hot's numbers, so its gradient is that of the dense definition in a real-valued
// m, differentiated at the one-hot: all four quadrants, whichever is selected.
TEST(autograd, quad_scan_gradient_of_the_one_hot) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(describe(c));
    const Operands o = random_operands(c);
    const Tensor cotangent = random_tensor({kBatch, c.geometry.out_height, c.geometry.out_width, kChannels}, 9);
    const auto actual = tape_gradients({{"one_hot", o.choice.one_hot}}, scan_of(o, c.geometry), {cotangent})[0];

    const Tensor m = o.choice.one_hot.clone();
    double magnitude = 0;
    const auto expected = numeric_gradient(m, [&] {
      const Tensor z = reference_quad_scan(o.x, o.projection, m, o.weights, c.geometry);
      double sum = 0;
      magnitude = 0;
      for (std::int64_t i = 0; i < z.count(); ++i) {
        const double term = z.data<double>()[i] * cotangent.data<double>()[i];
        sum += term;
        magnitude += std::abs(term);
      }
      return sum;
    });
    EXPECT_TRUE(gradients_near("one_hot", actual, expected, difference_noise(magnitude)));
  }
}

TEST(autograd, quad_scan_threads) {
  const QuadCase c{8, 12, 2, 3, {1, -1, FineOrder::kWindowRaster, 8, 10}};
  const Operands o = random_operands(c);
  auto inputs = named(o);
  inputs.push_back({"one_hot", o.choice.one_hot});
  EXPECT_TRUE(independent_of_threads(inputs, scan_of(o, c.geometry)));
}

TEST(autograd, quad_scan_rejects_unpadded_maps) {
  const QuadCase c{4, 4, 1, 1, {0, 0, FineOrder::kQuadtree, 4, 4}};
  Operands o = random_operands(c);
  o.x = filled({kBatch, 6, 4, kChannels}, 0);
  o.projection = filled({kBatch, 6, 4, 6}, 0);
  EXPECT_THROW(scan_of(o, c.geometry)(), ShapeError);
  const Operands good = random_operands(c);
  EXPECT_THROW(scan_of(good, {0, 0, FineOrder::kQuadtree, 5, 4})(), ShapeError);
  EXPECT_THROW(scan_of(good, {0, 0, FineOrder::kQuadtree, 4, 0})(), ShapeError);
}

}  // namespace
}  // namespace qm
