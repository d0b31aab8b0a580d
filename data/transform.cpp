#include "data/transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/pixel_ops.h"

namespace qm {
namespace {

constexpr std::int64_t kChannels = 3;

Box whole(const Image& image) {
  return {0, 0, image.height, image.width};
}

// ---- random draws ---------------------------------------------------------------------------------------------------

/// Half to even, as Python's round().
std::int64_t round_half_even(double value) {
  return static_cast<std::int64_t>(std::nearbyint(value));
}

/// torchvision's fallback: the largest box of an aspect ratio within bounds, in the middle.
Box central_box_within(ImageSize size, const std::array<double, 2>& ratio) {
  Box box{0, 0, size.height, size.width};
  const double image_ratio = static_cast<double>(size.width) / static_cast<double>(size.height);
  if (image_ratio < ratio[0]) box.height = round_half_even(static_cast<double>(size.width) / ratio[0]);
  if (image_ratio > ratio[1]) box.width = round_half_even(static_cast<double>(size.height) * ratio[1]);
  box.height = std::clamp<std::int64_t>(box.height, 1, size.height);
  box.width = std::clamp<std::int64_t>(box.width, 1, size.width);
  box.top = (size.height - box.height) / 2;
  box.left = (size.width - box.width) / 2;
  return box;
}

/// A box of the image's own size, shifted by up to `padding` pixels each way.
Box draw_shift(const Image& image, std::int64_t padding, const AugmentKey& key) {
  const PhiloxBlock block = draw_block(key, AugmentStream::kCrop);
  return {uniform_below(2 * padding + 1, block.word[0]) - padding,
          uniform_below(2 * padding + 1, block.word[1]) - padding, image.height, image.width};
}

/// Where a centre crop of `crop` pixels starts on an axis of `extent`: torchvision rounds half to even inside the image
/// and pads the smaller half first where the crop is larger.
std::int64_t center_offset(std::int64_t extent, std::int64_t crop) {
  return crop <= extent ? round_half_even(static_cast<double>(extent - crop) / 2.0) : -((crop - extent) / 2);
}

Interpolation draw_interpolation(const AugmentConfig& config, const AugmentKey& key) {
  if (!config.random_interpolation) return config.interpolation;
  const bool upper_half = (draw_block(key, AugmentStream::kInterpolation).word[0] >> 31) != 0;
  return upper_half ? Interpolation::kBicubic : Interpolation::kBilinear;
}

}  // namespace

Image crop_padded(const Image& image, const Box& box) {
  Image cropped{box.height, box.width, {}};
  cropped.pixels.resize(static_cast<std::size_t>(box.height * box.width * kChannels));
  const std::int64_t first_row = std::max<std::int64_t>(box.top, 0);
  const std::int64_t last_row = std::min(box.top + box.height, image.height);
  const std::int64_t first_column = std::max<std::int64_t>(box.left, 0);
  const std::int64_t last_column = std::min(box.left + box.width, image.width);
  if (first_column >= last_column) return cropped;
  for (std::int64_t y = first_row; y < last_row; ++y) {
    std::memcpy(cropped.pixels.data() + ((y - box.top) * box.width + first_column - box.left) * kChannels,
                image.pixels.data() + (y * image.width + first_column) * kChannels,
                static_cast<std::size_t>((last_column - first_column) * kChannels));
  }
  return cropped;
}

Box center_crop_box(ImageSize image, std::int64_t height, std::int64_t width) {
  return {center_offset(image.height, height), center_offset(image.width, width), height, width};
}

void flip_horizontal(std::uint8_t* pixels, std::int64_t height, std::int64_t width) {
  for (std::int64_t y = 0; y < height; ++y) {
    std::uint8_t* left = pixels + y * width * kChannels;
    std::uint8_t* right = left + (width - 1) * kChannels;
    for (; left < right; left += kChannels, right -= kChannels) std::swap_ranges(left, left + kChannels, right);
  }
}

Box draw_resized_crop(ImageSize size, const AugmentConfig& config, const AugmentKey& key) {
  constexpr std::uint32_t kAttempts = 10;
  const auto image_area = static_cast<double>(size.height * size.width);
  for (std::uint32_t attempt = 0; attempt < kAttempts; ++attempt) {
    const PhiloxBlock block = draw_block(key, AugmentStream::kCrop, attempt);
    const double area = image_area * uniform_between(config.area[0], config.area[1], block.word[0]);
    const double ratio = std::exp(uniform_between(std::log(config.ratio[0]), std::log(config.ratio[1]), block.word[1]));
    const std::int64_t width = round_half_even(std::sqrt(area * ratio));
    const std::int64_t height = round_half_even(std::sqrt(area / ratio));
    if (width < 1 || width > size.width || height < 1 || height > size.height) continue;
    return {uniform_below(size.height - height + 1, block.word[2]),
            uniform_below(size.width - width + 1, block.word[3]), height, width};
  }
  return central_box_within(size, config.ratio);
}

ScaledRegion decode_crop(std::span<const std::uint8_t> encoded, const AugmentConfig& config, const AugmentKey& key,
                         std::int64_t height, std::int64_t width) {
  // At the whole size the box has whole pixels and fills the image.
  constexpr ImageSize kWholeSize{kMaxPixels, kMaxPixels};
  const auto draw = [&](ImageSize size) { return draw_resized_crop(size, config, key); };
  return decode_scaled_region(encoded, draw, config.dct_scaling ? ImageSize{height, width} : kWholeSize);
}

std::vector<PixelOp> draw_pixel_ops(const AugmentConfig& config, const AugmentKey& key, std::int64_t height,
                                    std::int64_t width) {
  std::vector<PixelOp> ops;
  for (const DrawnOp& drawn :
       draw_rand_augment(config.rand_augment, key, height, width, config.interpolation, config.random_interpolation)) {
    ops.push_back(drawn.pixel_op);
  }
  const std::vector<PixelOp> jitter = draw_color_jitter(config.color_jitter, key);
  ops.insert(ops.end(), jitter.begin(), jitter.end());
  return ops;
}

std::int64_t most_pixel_ops(const AugmentConfig& config) {
  return config.rand_augment.layers +
         std::ranges::count_if(config.color_jitter.strength, [](double strength) { return strength > 0; });
}

AugmentConfig without_pixel_ops(AugmentConfig config) {
  config.rand_augment = {};
  config.color_jitter = {};
  return config;
}

void augment_pixels(const AugmentConfig& config, const AugmentKey& key, std::int64_t height, std::int64_t width,
                    std::uint8_t* pixels) {
  // The filter is symmetric, so flipping the result is flipping the crop, on fewer pixels.
  if (uniform_between(0, 1, draw_block(key, AugmentStream::kFlip).word[0]) < config.flip) {
    flip_horizontal(pixels, height, width);
  }
  std::vector<std::uint8_t> scratch;
  for (const PixelOp& op : draw_pixel_ops(config, key, height, width)) {
    cpu::apply_pixel_op(op, pixels, height, width, scratch);
  }
}

void augment_train(const Image& image, const AugmentConfig& config, const AugmentKey& key, std::int64_t height,
                   std::int64_t width, std::uint8_t* out) {
  const Interpolation interpolation = draw_interpolation(config, key);
  if (config.crop == CropMode::kPad) {
    const Image shifted = crop_padded(image, draw_shift(image, config.padding, key));
    resize_into(view_of(shifted, whole(shifted)), height, width, interpolation, out);
  } else {
    const bool cropped = config.crop == CropMode::kResized;
    const Box box = cropped ? draw_resized_crop({image.height, image.width}, config, key) : whole(image);
    resize_into(view_of(image, box), height, width, interpolation, out);
  }
  augment_pixels(config, key, height, width, out);
}

void augment_train(std::span<const std::uint8_t> encoded, const AugmentConfig& config, const AugmentKey& key,
                   std::int64_t height, std::int64_t width, std::uint8_t* out) {
  if (config.crop != CropMode::kResized) {
    return augment_train(decode_image(encoded), config, key, height, width, out);
  }
  const ScaledRegion crop = decode_crop(encoded, config, key, height, width);
  resize_into(view_of(crop.image, whole(crop.image)), crop.box, height, width, draw_interpolation(config, key), out);
  augment_pixels(config, key, height, width, out);
}

void transform_eval(const Image& image, const EvalTransformConfig& config, std::int64_t height, std::int64_t width,
                    std::uint8_t* out) {
  if (config.resize == 0) return resize_into(view_of(image, whole(image)), height, width, config.interpolation, out);
  // Of the scaled image no more is computed than the crop shows: all of one that is long and thin may be too much.
  const std::int64_t short_side = std::min(image.height, image.width);
  const ImageSize scaled{image.height * config.resize / short_side, image.width * config.resize / short_side};
  const Box crop = center_crop_box(scaled, height, width);
  Box seen{std::max<std::int64_t>(crop.top, 0), std::max<std::int64_t>(crop.left, 0), 0, 0};
  seen.height = std::min(crop.top + height, scaled.height) - seen.top;
  seen.width = std::min(crop.left + width, scaled.width) - seen.left;
  const Image part = resize_part(image, scaled, seen, config.interpolation);
  const Image cropped = crop_padded(part, {crop.top - seen.top, crop.left - seen.left, height, width});
  std::memcpy(out, cropped.pixels.data(), cropped.pixels.size());
}

}  // namespace qm
