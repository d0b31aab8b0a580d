#include "kernels/quad_order.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/support/scan_reference.h"

namespace qm {
namespace {

std::vector<QuadOrder> orders() {
  std::vector<QuadOrder> list;
  for (const FineOrder fine : {FineOrder::kQuadtree, FineOrder::kWindowRaster}) {
    for (const Place size : {Place{4, 4}, Place{4, 12}, Place{8, 4}, Place{12, 20}}) {
      for (const Place roll : {Place{0, 0}, Place{1, 1}, Place{-1, -1}, Place{1, -1}, Place{-1, 1}, Place{30, -30}}) {
        list.push_back({size.i, size.j, roll.i, roll.j, fine});
      }
    }
  }
  return list;
}

std::string describe(const QuadOrder& order) {
  return concat(order.height, "x", order.width, ", roll ", order.roll_h, ",", order.roll_w,
                order.fine_order == FineOrder::kQuadtree ? ", quadtree" : ", window_raster");
}

template <class Visit>
void for_each_token(const QuadOrder& order, Visit visit) {
  for (std::int64_t i = 0; i < order.height; ++i) {
    for (std::int64_t j = 0; j < order.width; ++j) visit(QuadOrder::Token{i, j});
  }
}

TEST(kernels, quad_order_matches_its_definition) {
  for (const auto& order : orders()) {
    SCOPED_TRACE(describe(order));
    const auto coarse = coarse_places(order.height, order.width);
    const auto fine = fine_places(order.height, order.width, order.fine_order);
    for (std::int64_t p = 0; p < order.length(); ++p) {
      const auto at = static_cast<std::size_t>(p);
      ASSERT_EQ(order.coarse_position({coarse[at].i, coarse[at].j}), p);
      ASSERT_EQ(order.fine_position({fine[at].i, fine[at].j}), p);
    }
  }
}

TEST(kernels, quad_order_tokens_are_the_inverses_of_positions) {
  for (const auto& order : orders()) {
    SCOPED_TRACE(describe(order));
    for_each_token(order, [&](QuadOrder::Token t) {
      const auto coarse = order.coarse_token(order.coarse_position(t));
      const auto fine = order.fine_token(order.fine_position(t));
      ASSERT_EQ(coarse.i * order.width + coarse.j, t.i * order.width + t.j);
      ASSERT_EQ(fine.i * order.width + fine.j, t.i * order.width + t.j);
    });
  }
}

// A roll by (1, −2) moves the value at (i, j) to (i + 1, j − 2): what lies at (0, 0) of the rolled map came from (−1,
// 2).
TEST(kernels, quad_order_rolls_towards_larger_indices) {
  const QuadOrder order{4, 8, 1, -2, FineOrder::kQuadtree};
  EXPECT_EQ(order.address({0, 0}), 3 * 8 + 2);
  EXPECT_EQ(order.address({1, 0}), 2);
  EXPECT_EQ(order.address({3, 7}), 2 * 8 + 1);
  // Whole turns change nothing.
  const QuadOrder turned{4, 8, 1 - 8, -2 + 24, FineOrder::kQuadtree};
  for_each_token(order, [&](QuadOrder::Token t) { ASSERT_EQ(turned.address(t), order.address(t)); });
}

TEST(kernels, quad_order_addresses_are_a_permutation) {
  for (const auto& order : orders()) {
    std::set<std::int64_t> addresses;
    for_each_token(order, [&](QuadOrder::Token t) { addresses.insert(order.address(t)); });
    ASSERT_EQ(static_cast<std::int64_t>(addresses.size()), order.length()) << describe(order);
    ASSERT_GE(*addresses.begin(), 0);
    ASSERT_LT(*addresses.rbegin(), order.length());
  }
}

TEST(kernels, quad_order_quadrants) {
  const QuadOrder order{8, 12, 0, 0, FineOrder::kQuadtree};
  EXPECT_EQ(order.quadrant({3, 5}), 0);
  EXPECT_EQ(order.quadrant({3, 6}), 1);
  EXPECT_EQ(order.quadrant({4, 5}), 2);
  EXPECT_EQ(order.quadrant({4, 6}), 3);
}

TEST(kernels, quad_order_quadtree_is_a_permutation_inside_quadrants) {
  for (const auto& order : orders()) {
    if (order.fine_order != FineOrder::kQuadtree) continue;
    SCOPED_TRACE(describe(order));
    for (int selected = 0; selected < 4; ++selected) {
      std::set<std::int64_t> positions;
      for_each_token(order, [&](QuadOrder::Token t) {
        const std::int64_t position = order.position(t, selected);
        positions.insert(position);
        ASSERT_EQ(position / (order.length() / 4), order.quadrant(t));
      });
      ASSERT_EQ(static_cast<std::int64_t>(positions.size()), order.length());
    }
  }
}

// Whatever collides, tokens_at lists every token once, at its own position; in the quadtree order one a position, in
// window_raster up to two.
TEST(kernels, quad_order_tokens_at_lists_every_token_once) {
  for (const auto& order : orders()) {
    SCOPED_TRACE(describe(order));
    for (int selected = 0; selected < 4; ++selected) {
      std::vector<std::int64_t> position_of(static_cast<std::size_t>(order.length()), -1);
      int counts[3] = {};
      for (std::int64_t p = 0; p < order.length(); ++p) {
        std::int64_t addresses[2];
        const int found = order.tokens_at(p, selected, addresses);
        ASSERT_LE(found, 2);
        ++counts[found];
        for (int i = 0; i < found; ++i) {
          ASSERT_EQ(position_of[static_cast<std::size_t>(addresses[i])], -1) << "listed twice";
          position_of[static_cast<std::size_t>(addresses[i])] = p;
        }
      }
      EXPECT_EQ(counts[1] + 2 * counts[2], order.length());
      EXPECT_EQ(counts[0], counts[2]);
      for_each_token(order, [&](QuadOrder::Token t) {
        ASSERT_EQ(position_of[static_cast<std::size_t>(order.address(t))], order.position(t, selected));
      });
      if (order.fine_order == FineOrder::kQuadtree) {
        EXPECT_EQ(counts[0], 0);
      } else {
        // A selected quadrant takes sub-windows 0 1 4 5, 2 3 6 7, 8 9 12 13 or 10 11 14 15 of sixteen; its own segment
        // has two of them. The other two, half of its tokens, meet tokens of another quadrant.
        EXPECT_EQ(counts[2], order.length() / 8);
      }
    }
  }
}

}  // namespace
}  // namespace qm
