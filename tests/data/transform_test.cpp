#include "data/transform.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "kernels/base/error.h"
#include "tests/support/images.h"

namespace qm {
namespace {

constexpr auto kBilinear = Interpolation::kBilinear;
constexpr auto kBicubic = Interpolation::kBicubic;

std::vector<std::uint8_t> augmented(const Image& image, const AugmentConfig& config, const AugmentKey& key,
                                    std::int64_t height, std::int64_t width) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(height * width * 3));
  augment_train(image, config, key, height, width, out.data());
  return out;
}

std::vector<std::uint8_t> flipped(std::vector<std::uint8_t> pixels, std::int64_t height, std::int64_t width) {
  flip_horizontal(pixels.data(), height, width);
  return pixels;
}

AugmentKey key_of(std::uint32_t position) {
  return {5, 2, position};
}

// Weights 3/7, 3/7, 1/7 of a filter as wide as two outputs, clipped at the edge.
TEST(data, transform_resize_by_hand) {
  Image image{1, 4, {}};
  for (const int grey : {0, 70, 140, 210}) image.pixels.insert(image.pixels.end(), 3, static_cast<std::uint8_t>(grey));
  const Image half = resize(image, {0, 0, 1, 4}, 1, 2, kBilinear);
  EXPECT_EQ(half.pixels, (std::vector<std::uint8_t>{50, 50, 50, 160, 160, 160}));
}

TEST(data, transform_resize_equals_pil) {
  struct Case {
    std::int64_t height, width;
    std::uint32_t seed;
    Box crop;
    std::int64_t to_height, to_width;
    Interpolation interpolation;
    std::uint64_t digest;  // of the result of PIL 12 or before
  };
  const Case cases[] = {
      {37, 53, 1, {0, 0, 37, 53}, 16, 20, kBilinear, 0x86c295bc74f1291full},
      {37, 53, 1, {0, 0, 37, 53}, 16, 20, kBicubic, 0x891764b6262c716eull},
      {37, 53, 2, {5, 7, 20, 31}, 64, 48, kBilinear, 0xd53c6e0a3063401bull},
      {37, 53, 2, {5, 7, 20, 31}, 64, 48, kBicubic, 0xad6d5409ca08e896ull},
      {40, 30, 3, {0, 0, 40, 30}, 17, 61, kBicubic, 0xa3046480d8319500ull},
      {40, 30, 3, {0, 0, 40, 30}, 90, 11, kBilinear, 0x14357adbf52ec50dull},
      {40, 30, 4, {3, 2, 30, 20}, 30, 50, kBicubic, 0x8d4a6b79da144d5aull},
      {40, 30, 4, {3, 2, 30, 20}, 13, 20, kBilinear, 0x1eb5f78dfaddc393ull},
      {9, 9, 5, {8, 8, 1, 1}, 4, 5, kBicubic, 0xc56092dd07d99f25ull},
      {300, 200, 6, {0, 0, 300, 200}, 1, 1, kBicubic, 0xa32734196f09ea94ull},
      {7, 11, 7, {0, 0, 7, 11}, 7, 11, kBicubic, 0x98708c62ff4d4e1cull},
  };
  for (const auto& c : cases) {
    const Image image = noise_image(c.height, c.width, c.seed);
    const Image resized = resize(image, c.crop, c.to_height, c.to_width, c.interpolation);
    EXPECT_EQ(resized.height, c.to_height);
    EXPECT_EQ(resized.width, c.to_width);
    EXPECT_EQ(digest_of(resized.pixels), c.digest)
        << c.height << " x " << c.width << " to " << c.to_height << " x " << c.to_width;
  }
}

TEST(data, transform_resize_commutes_with_flip) {
  for (const auto interpolation : {kBilinear, kBicubic}) {
    for (const std::int64_t width : {7, 20, 31, 64, 101}) {
      const Image image = noise_image(40, 53, 8);
      const Image mirrored{40, 53, flipped(image.pixels, 40, 53)};
      const Box whole{0, 0, 40, 53};
      EXPECT_EQ(resize(mirrored, whole, 24, width, interpolation).pixels,
                flipped(resize(image, whole, 24, width, interpolation).pixels, 24, width));
    }
  }
}

TEST(data, transform_resize_refuses_impossible_extents) {
  const Image image = noise_image(10, 20, 1);
  for (const Box& crop : {Box{-1, 0, 5, 5}, Box{0, 16, 5, 5}, Box{6, 0, 5, 5}, Box{0, 0, 0, 5}}) {
    EXPECT_THROW(resize(image, crop, 4, 4, kBilinear), ShapeError);
  }
  EXPECT_THROW(resize(image, {0, 0, 5, 5}, 0, 4, kBilinear), ShapeError);
  EXPECT_THROW(resize(image, {0, 0, 5, 5}, kMaxPixels, 2, kBilinear), ShapeError);
}

TEST(data, transform_crop_is_black_outside) {
  const Image image = noise_image(4, 5, 1);
  for (const Box& box : {Box{-2, -1, 7, 9}, Box{1, 2, 2, 2}, Box{3, -4, 6, 5}, Box{-9, 0, 4, 4}, Box{0, 7, 3, 3}}) {
    const Image cropped = crop_padded(image, box);
    ASSERT_EQ(static_cast<std::int64_t>(cropped.pixels.size()), box.height * box.width * 3);
    for (std::int64_t i = 0; i < box.height * box.width * 3; ++i) {
      const std::int64_t y = i / 3 / box.width + box.top, x = i / 3 % box.width + box.left;
      const bool inside = y >= 0 && y < 4 && x >= 0 && x < 5;
      EXPECT_EQ(cropped.pixels[i], inside ? image.pixels[(y * 5 + x) * 3 + i % 3] : 0);
    }
  }
}

TEST(data, transform_flip_mirrors_rows) {
  EXPECT_EQ(flipped({1, 2, 3, 4, 5, 6, 7, 8, 9}, 1, 3), (std::vector<std::uint8_t>{7, 8, 9, 4, 5, 6, 1, 2, 3}));
  EXPECT_EQ(flipped({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 2, 2),
            (std::vector<std::uint8_t>{4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9}));
}

// Digests of what PIL (12 or before) gives under torchvision's Resize and CenterCrop.
TEST(data, transform_eval_equals_torchvision) {
  struct Case {
    std::int64_t height, width;
    std::uint32_t seed;
    std::int64_t resize, to_height, to_width;
    Interpolation interpolation;
    std::uint64_t digest;
  };
  const Case cases[] = {
      {50, 75, 1, 40, 33, 33, kBicubic, 0x49a83b724c5ad9daull},  // odd remainders
      {75, 50, 2, 40, 33, 32, kBicubic, 0xc2155a3f96db3c26ull},
      {50, 75, 3, 0, 33, 32, kBilinear, 0x56ac62952130f198ull},
      {50, 75, 4, 32, 37, 41, kBilinear, 0x2f481f52ee15465dull},  // crop taller than the image
      {20, 90, 5, 24, 29, 32, kBicubic, 0x3e2a302ecba3dc92ull},
      {64, 61, 6, 61, 58, 56, kBicubic, 0xd4b3445ace0d6d92ull},
      {50, 71, 7, 40, 33, 33, kBicubic, 0xd637ea6c179bb273ull},  // the long side of 56.8 is truncated
      {71, 50, 8, 40, 33, 33, kBicubic, 0xb72f927b24916d99ull},
  };
  for (const auto& c : cases) {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(c.to_height * c.to_width * 3));
    transform_eval(noise_image(c.height, c.width, c.seed), {c.resize, c.interpolation}, c.to_height, c.to_width,
                   out.data());
    EXPECT_EQ(digest_of(out), c.digest) << c.seed;
  }
}

// Scaled to a short side of 256 it would have 437 million pixels.
TEST(data, transform_eval_of_a_long_thin_image_computes_what_the_crop_shows) {
  constexpr std::int64_t kSide = 224, kShortSide = 256;
  std::vector<std::uint8_t> out(static_cast<std::size_t>(kSide * kSide * 3));
  for (const Interpolation interpolation : {kBilinear, kBicubic}) {
    // Of one that is shorter, so that all of it can be computed, the bits are those of the whole.
    for (const auto& [height, width] : {std::pair<std::int64_t, std::int64_t>{3, 400}, {400, 3}, {256, 900}}) {
      const Image image = noise_image(height, width, 9);
      const std::int64_t short_side = std::min(height, width);
      const Image scaled = resize(image, {0, 0, height, width}, height * kShortSide / short_side,
                                  width * kShortSide / short_side, interpolation);
      const Image expected = crop_padded(scaled, center_crop_box({scaled.height, scaled.width}, kSide, kSide));
      transform_eval(image, {kShortSide, interpolation}, kSide, kSide, out.data());
      EXPECT_EQ(out, expected.pixels) << height << " x " << width;
    }
    // The middle of a constant image is that constant; no more than its few columns are looked at.
    Image thin{3, 20000, std::vector<std::uint8_t>(3 * 20000 * 3, 77)};
    transform_eval(thin, {kShortSide, interpolation}, kSide, kSide, out.data());
    EXPECT_EQ(out, std::vector<std::uint8_t>(out.size(), 77));
  }
}

TEST(data, resize_part_refuses_what_lies_outside) {
  const Image image = noise_image(4, 6, 1);
  for (const Box& part : {Box{0, 0, 9, 12}, Box{-1, 0, 4, 4}, Box{0, 9, 4, 4}, Box{2, 2, 0, 4}}) {
    EXPECT_THROW(resize_part(image, {8, 12}, part, kBicubic), ShapeError);
  }
  EXPECT_EQ(resize_part(image, {8, 12}, {0, 0, 8, 12}, kBicubic).pixels,
            resize(image, {0, 0, 4, 6}, 8, 12, kBicubic).pixels);
}

// Computed by an independent program: changing these changes every run.
TEST(data, transform_resized_crop_is_fixed_for_ever) {
  struct Case {
    std::int64_t height, width;
    AugmentKey key;
    Box box;
  };
  const Case cases[] = {
      {375, 500, {0, 0, 0}, {12, 60, 361, 388}},
      {375, 500, {0, 0, 1}, {55, 75, 282, 359}},
      {375, 500, {0, 1, 0}, {0, 103, 336, 379}},  // the fourth try
      {375, 500, {std::uint64_t{1} << 40, 0, 0}, {38, 259, 193, 197}},
      {500, 333, {7, 299, 1281166}, {183, 47, 129, 164}},
      {100, 500, {7, 0, 43}, {27, 282, 72, 67}},  // the tenth
      {10, 1000, {7, 0, 0}, {0, 493, 10, 13}},    // ten tries in vain
      {1000, 10, {7, 0, 0}, {493, 0, 13, 10}},
  };
  for (const auto& c : cases) {
    const Box box = draw_resized_crop({c.height, c.width}, {.crop = CropMode::kResized}, c.key);
    EXPECT_EQ(box, c.box) << box.top << ", " << box.left << ", " << box.height << ", " << box.width;
  }
}

TEST(data, transform_resized_crop_distribution) {
  constexpr int kDraws = 4000;
  const Image image = noise_image(400, 400, 1);
  const AugmentConfig config{.crop = CropMode::kResized, .area = {0.1, 0.5}, .ratio = {0.8, 1.25}};
  double area_sum = 0, log_ratio_sum = 0, place_sum = 0;
  for (int position = 0; position < kDraws; ++position) {
    const Box box = draw_resized_crop({400, 400}, config, key_of(position));
    ASSERT_TRUE(box.top >= 0 && box.left >= 0 && box.top + box.height <= 400 && box.left + box.width <= 400);
    const double area = static_cast<double>(box.height * box.width) / (400.0 * 400.0);
    const double ratio = static_cast<double>(box.width) / static_cast<double>(box.height);
    ASSERT_TRUE(area > 0.098 && area < 0.502) << area;
    ASSERT_TRUE(ratio > 0.79 && ratio < 1.26) << ratio;
    area_sum += area;
    log_ratio_sum += std::log(ratio);
    place_sum += static_cast<double>(box.top) / static_cast<double>(400 - box.height);
  }
  EXPECT_NEAR(area_sum / kDraws, 0.3, 0.007);  // four standard errors of uniform draws
  EXPECT_NEAR(log_ratio_sum / kDraws, 0.0, 0.009);
  EXPECT_NEAR(place_sum / kDraws, 0.5, 0.02);
}

TEST(data, transform_augment_resized_is_crop_resize_flip) {
  const Image image = noise_image(60, 80, 2);
  AugmentConfig config{.crop = CropMode::kResized};
  for (std::uint32_t position = 0; position < 8; ++position) {
    const Box box = draw_resized_crop({image.height, image.width}, config, key_of(position));
    const Image expected = resize(image, box, 24, 32, kBicubic);
    config.flip = 0;
    EXPECT_EQ(augmented(image, config, key_of(position), 24, 32), expected.pixels);
    config.flip = 1;
    EXPECT_EQ(augmented(image, config, key_of(position), 24, 32), flipped(expected.pixels, 24, 32));
  }
}

double mean_difference(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::abs(int{a[i]} - int{b[i]});
  return sum / static_cast<double>(a.size());
}

/// Waves of some 120 pixels, as a JPEG of high quality.
std::vector<std::uint8_t> waves(std::int64_t height, std::int64_t width) {
  Image image{height, width, {}};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const double wave = std::sin(0.05 * static_cast<double>(x) + c) * std::cos(0.055 * static_cast<double>(y));
        image.pixels.push_back(static_cast<std::uint8_t>(128 + 100 * wave));
      }
    }
  }
  return encode_jpeg(image, 97);
}

// The scaled crop shows the same place: a crop a pixel beside is another by twice as much.
TEST(data, transform_dct_scaling_keeps_the_crop) {
  const auto bytes = waves(403, 501);
  const Image image = decode_image(bytes);
  constexpr std::int64_t kSide = 40;
  std::map<std::int64_t, int> shrinks;
  for (std::uint32_t position = 0; position < 60; ++position) {
    AugmentConfig config{.crop = CropMode::kResized};
    std::vector<std::uint8_t> whole(kSide * kSide * 3), scaled(whole.size());
    augment_train(bytes, config, key_of(position), kSide, kSide, whole.data());
    EXPECT_EQ(whole, augmented(image, config, key_of(position), kSide, kSide));
    config.dct_scaling = true;
    augment_train(bytes, config, key_of(position), kSide, kSide, scaled.data());
    Box box = draw_resized_crop({image.height, image.width}, config, key_of(position));
    const ScaledRegion crop = decode_crop(bytes, config, key_of(position), kSide, kSide);
    EXPECT_GE(crop.box.height, kSide);
    EXPECT_GE(crop.box.width, kSide);
    ++shrinks[std::lround(static_cast<double>(box.height) / crop.box.height)];
    box.left += box.left + box.width < image.width ? 1 : -1;
    EXPECT_LT(mean_difference(scaled, whole),
              mean_difference(resize(image, box, kSide, kSide, kBicubic).pixels, whole) / 2)
        << "position " << position << ", crop " << box.height << " x " << box.width;
  }
  EXPECT_TRUE(shrinks[2] > 0 && shrinks[4] > 0 && shrinks[8] > 0);
}

TEST(data, transform_augment_pad_reaches_every_shift) {
  constexpr int kPadding = 2, kDraws = 5000;
  const Image image = noise_image(6, 7, 3);
  std::map<std::vector<std::uint8_t>, int> seen;
  for (std::int64_t top = -kPadding; top <= kPadding; ++top) {
    for (std::int64_t left = -kPadding; left <= kPadding; ++left) {
      seen[crop_padded(image, {top, left, 6, 7}).pixels] = 0;
    }
  }
  ASSERT_EQ(seen.size(), 25u);
  for (int position = 0; position < kDraws; ++position) {
    ++seen[augmented(image, {.crop = CropMode::kPad, .padding = kPadding}, key_of(position), 6, 7)];
  }
  ASSERT_EQ(seen.size(), 25u) << "a result that is no shift of the image";
  double chi_square = 0;
  for (const auto& [pixels, count] : seen) chi_square += (count - 200.0) * (count - 200.0) / 200.0;
  EXPECT_LT(chi_square, 56);  // 24 degrees of freedom: three in ten thousand exceed it
}

TEST(data, transform_augment_without_crop_only_resizes) {
  const Image image = noise_image(33, 21, 4);
  EXPECT_EQ(augmented(image, {.interpolation = kBilinear}, key_of(0), 16, 40),
            resize(image, {0, 0, 33, 21}, 16, 40, kBilinear).pixels);
}

// Which positions' resize is bicubic: an independent program's, fixed for ever.
TEST(data, transform_draws_the_interpolation_of_the_resize) {
  const std::vector<int> expected = {1, 0, 1, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 0};
  const Image image = noise_image(40, 50, 7);
  const std::vector<std::uint8_t> bytes = encode_png(image);
  for (const auto crop : {CropMode::kNone, CropMode::kResized}) {
    const AugmentConfig config{.crop = crop, .random_interpolation = true};
    std::vector<int> drawn;
    for (int position = 0; position < 16; ++position) {
      const Box box =
          crop == CropMode::kNone ? Box{0, 0, 40, 50} : draw_resized_crop({40, 50}, config, key_of(position));
      const auto pixels = augmented(image, config, key_of(position), 24, 24);
      drawn.push_back(pixels == resize(image, box, 24, 24, kBicubic).pixels);
      EXPECT_EQ(pixels, resize(image, box, 24, 24, drawn.back() ? kBicubic : kBilinear).pixels);
      std::vector<std::uint8_t> decoded(pixels.size());
      augment_train(bytes, config, key_of(position), 24, 24, decoded.data());
      EXPECT_EQ(decoded, pixels) << "position " << position;
    }
    EXPECT_EQ(drawn, expected);
  }
}

// RandAugment's operations first, with the recipe's interpolation and fill, then colour jitter's.
TEST(data, transform_draws_rand_augment_and_then_color_jitter) {
  AugmentConfig config{.interpolation = kBilinear};
  config.rand_augment = {.layers = 2, .probability = 1, .fill = {124, 116, 104}};
  config.color_jitter.strength = {0.4, 0.4, 0.4, 0.1};
  for (int position = 0; position < 8; ++position) {
    std::vector<PixelOp> expected;
    for (const DrawnOp& op : draw_rand_augment(config.rand_augment, key_of(position), 24, 32, kBilinear, false)) {
      expected.push_back(op.pixel_op);
    }
    for (const PixelOp& op : draw_color_jitter(config.color_jitter, key_of(position))) expected.push_back(op);
    ASSERT_EQ(expected.size(), 6u);
    EXPECT_EQ(most_pixel_ops(config), 6);
    EXPECT_EQ(draw_pixel_ops(config, key_of(position), 24, 32), expected);

    Image image = noise_image(24, 32, 9);
    const auto pixels = augmented(image, config, key_of(position), 24, 32);
    std::vector<std::uint8_t> scratch;
    for (const PixelOp& op : expected) cpu::apply_pixel_op(op, image.pixels.data(), 24, 32, scratch);
    EXPECT_EQ(pixels, image.pixels);
  }
}

TEST(data, transform_flip_follows_its_probability_and_its_own_stream) {
  constexpr int kDraws = 4000;
  const Image image = noise_image(1, 2, 5);
  int flips = 0;
  for (int position = 0; position < kDraws; ++position) {
    flips += augmented(image, {.flip = 0.25}, key_of(position), 1, 2) != image.pixels;
  }
  EXPECT_NEAR(flips, 0.25 * kDraws, 110);  // four standard deviations

  std::vector<int> first;
  for (int position = 0; position < 16; ++position) {
    first.push_back(augmented(image, {.flip = 0.5}, key_of(position), 1, 2) != image.pixels);
  }
  EXPECT_EQ(first, (std::vector<int>{0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0}));  // an independent program's
}

TEST(data, transform_augment_depends_on_its_whole_key) {
  const Image image = noise_image(64, 64, 6);
  const AugmentConfig config{.crop = CropMode::kResized, .flip = 0.5};
  const auto base = augmented(image, config, {1, 2, 3}, 16, 16);
  EXPECT_EQ(augmented(image, config, {1, 2, 3}, 16, 16), base);
  for (const AugmentKey& key : {AugmentKey{2, 2, 3}, AugmentKey{1, 3, 3}, AugmentKey{1, 2, 4}}) {
    EXPECT_NE(augmented(image, config, key, 16, 16), base);
  }
}

}  // namespace
}  // namespace qm
