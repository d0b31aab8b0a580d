#include "data/random_erasing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "data/color_jitter.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

constexpr std::int64_t kSide = 224;

std::vector<ErasedBox> draw(const ErasingConfig& config, std::uint32_t position) {
  std::vector<ErasedBox> boxes(static_cast<std::size_t>(config.count));
  draw_erasing(config, {3, 1, position}, kSide, kSide, boxes);
  return boxes;
}

double area_of(const ErasedBox& box) {
  return static_cast<double>(box.bottom - box.top) * (box.right - box.left) / (kSide * kSide);
}

TEST(data, random_erasing_boxes_follow_their_distribution) {
  constexpr int kDraws = 20000;
  int erased = 0;
  double area = 0, log_aspect = 0, least_aspect = 1, greatest_aspect = 1;
  for (std::uint32_t position = 0; position < kDraws; ++position) {
    const ErasedBox box = draw({.probability = 0.25}, position)[0];
    if (box.bottom == 0) continue;
    ++erased;
    ASSERT_TRUE(box.top >= 0 && box.left >= 0 && box.bottom <= kSide && box.right <= kSide);
    ASSERT_GT(area_of(box), 0.018);
    ASSERT_LT(area_of(box), 0.336);
    area += area_of(box);
    const double aspect = static_cast<double>(box.bottom - box.top) / (box.right - box.left);
    log_aspect += std::log(aspect);
    least_aspect = std::min(least_aspect, aspect);
    greatest_aspect = std::max(greatest_aspect, aspect);
  }
  EXPECT_NEAR(erased, 0.25 * kDraws, 4.5 * std::sqrt(0.25 * 0.75 * kDraws));
  EXPECT_NEAR(log_aspect / erased, 0, 4.5 * 0.7 / std::sqrt(erased));
  // Sides are rounded to whole pixels.
  EXPECT_NEAR(least_aspect, 0.3, 0.01);
  EXPECT_NEAR(1 / greatest_aspect, 0.3, 0.01);
  // A little under the middle of 0.02 … 1/3: long boxes of large area do not fit and are drawn again.
  EXPECT_NEAR(area / erased, 0.1765, 0.008);
}

TEST(data, random_erasing_shares_the_area_among_up_to_count_boxes) {
  std::array<int, 4> counts{};
  for (std::uint32_t position = 0; position < 3000; ++position) {
    std::size_t used = 0;
    const auto boxes = draw({.probability = 1, .fill = EraseFill::kRand, .count = 3}, position);
    for (const ErasedBox& box : boxes) used += box.bottom > box.top;
    ++counts[used];
    for (std::size_t i = 0; i < used; ++i) {
      EXPECT_LT(area_of(boxes[i]), 0.34 / static_cast<double>(used));
      EXPECT_EQ(boxes[i].stream, 256 + i);
      EXPECT_EQ(boxes[i].fill, EraseFill::kRand);
    }
  }
  EXPECT_EQ(counts[0], 0);
  for (int used = 1; used <= 3; ++used) EXPECT_NEAR(counts[used], 1000, 120) << used;
}

TEST(data, random_erasing_depends_on_its_key_and_is_off_at_zero) {
  EXPECT_EQ(draw({}, 0)[0].bottom, 0);
  const ErasingConfig always{.probability = 1};
  const ErasedBox first = draw(always, 5)[0], again = draw(always, 5)[0], other = draw(always, 6)[0];
  EXPECT_EQ(first.top, again.top);
  EXPECT_EQ(first.right, again.right);
  EXPECT_TRUE(first.top != other.top || first.left != other.left || first.right != other.right);
  std::vector<ErasedBox> two(2);
  EXPECT_THROW(draw_erasing(always, {}, kSide, kSide, two), ShapeError);
}

// Computed by an independent program from the key's random words: changing these changes every run.
TEST(data, random_erasing_is_fixed_for_ever) {
  struct Case {
    std::int64_t height, width;
    std::uint32_t position;
    std::array<std::int32_t, 4> rows_columns;
  };
  const Case cases[] = {
      {40, 200, 0, {7, 38, 71, 148}},
      {40, 200, 2, {8, 33, 111, 153}},   // the second try
      {40, 200, 5761, {7, 23, 65, 80}},  // the tenth
  };
  std::vector<ErasedBox> boxes(1);
  const auto expect = [](const ErasedBox& box, const std::array<std::int32_t, 4>& rows_columns) {
    EXPECT_EQ((std::array{box.top, box.bottom, box.left, box.right}), rows_columns);
  };
  for (const auto& c : cases) {
    draw_erasing({.probability = 1}, {3, 1, c.position}, c.height, c.width, boxes);
    expect(boxes[0], c.rows_columns);
  }
  const auto three = draw({.probability = 0.5, .count = 3}, 3);
  expect(three[0], {89, 116, 61, 125});
  expect(three[1], {185, 212, 28, 82});
  expect(three[2], {119, 133, 170, 215});
}

// A box's noise is its image's own.
TEST(data, random_erasing_boxes_have_the_whole_key) {
  const AugmentKey key{(std::uint64_t{1} << 40) + 3, 4, 5};
  std::vector<ErasedBox> boxes(1);
  draw_erasing({.probability = 1}, key, kSide, kSide, boxes);
  EXPECT_EQ(boxes[0].seed, key.seed);
  EXPECT_EQ(boxes[0].epoch, key.epoch);
  EXPECT_EQ(boxes[0].position, key.position);
}

// As timm has it. On 3 × 3 pixels many tries are as long as the image and are drawn again.
TEST(data, random_erasing_boxes_are_smaller_than_the_image) {
  std::vector<ErasedBox> boxes(1);
  for (std::uint32_t position = 0; position < 200; ++position) {
    draw_erasing({.probability = 1}, {3, 1, position}, 3, 3, boxes);
    EXPECT_LT(boxes[0].bottom - boxes[0].top, 3) << position;
    EXPECT_LT(boxes[0].right - boxes[0].left, 3) << position;
  }
}

TEST(data, random_erasing_leaves_an_image_of_one_pixel) {
  std::vector<ErasedBox> box(1);
  draw_erasing({.probability = 1}, {1, 1, 1}, 1, 1, box);
  EXPECT_EQ(box[0].bottom - box[0].top, 0);
}

TEST(data, color_jitter_draws_factors_in_every_order) {
  const ColorJitterConfig config{{0.4, 0.2, 1.5, 0.1}, 1};
  std::array<int, 4> first{};
  double brightness = 0;
  for (std::uint32_t position = 0; position < 8000; ++position) {
    const auto ops = draw_color_jitter(config, {1, 2, position});
    ASSERT_EQ(ops.size(), 4u);
    for (const PixelOp& op : ops) {
      const double factor = op.argument;
      if (op.kind == PixelOpKind::kBrightness) {
        ASSERT_TRUE(factor > 0.6 && factor < 1.4);
      }
      if (op.kind == PixelOpKind::kContrast) {
        ASSERT_TRUE(factor > 0.8 && factor < 1.2);
      }
      if (op.kind == PixelOpKind::kColor) {
        ASSERT_TRUE(factor > 0 && factor < 2.5);
      }
      if (op.kind == PixelOpKind::kHue) {
        ASSERT_TRUE(std::abs(factor) < 0.1);
      }
      if (op.kind == PixelOpKind::kBrightness) brightness += factor / 8000;
    }
    ++first[ops[0].kind == PixelOpKind::kBrightness ? 0
            : ops[0].kind == PixelOpKind::kContrast ? 1
            : ops[0].kind == PixelOpKind::kColor    ? 2
                                                    : 3];
  }
  for (const int count : first) EXPECT_NEAR(count, 2000, 180);
  EXPECT_NEAR(brightness, 1, 0.012);
}

TEST(data, color_jitter_leaves_out_what_has_no_strength) {
  EXPECT_TRUE(draw_color_jitter({}, {1, 2, 3}).empty());
  EXPECT_TRUE(draw_color_jitter({{1, 1, 1, 0}, 0}, {1, 2, 3}).empty());
  EXPECT_EQ(draw_color_jitter({{0, 0.5, 0, 0}, 1}, {1, 2, 3}).size(), 1u);
}

}  // namespace
}  // namespace qm
