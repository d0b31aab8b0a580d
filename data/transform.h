// The two pipelines that bring an image to the model's input size, and their crops and flips.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "data/augment_key.h"
#include "data/color_jitter.h"
#include "data/image.h"
#include "data/rand_augment.h"
#include "data/resample.h"

namespace qm {

enum class CropMode {
  kNone,
  kPad,      ///< pad with zeros on each side, then a random crop of the image's own size
  kResized,  ///< random area and aspect ratio, resized to the input ("Inception crop")
};

/// The pixels under `box`, which may leave the image: black outside.
Image crop_padded(const Image& image, const Box& box);

/// The box of a centre crop, with torchvision's rounding; it leaves an image that is smaller than the crop.
Box center_crop_box(ImageSize image, std::int64_t height, std::int64_t width);

/// Mirrors (height, width, 3) pixels left to right in place.
void flip_horizontal(std::uint8_t* pixels, std::int64_t height, std::int64_t width);

struct AugmentConfig {
  CropMode crop = CropMode::kNone;
  std::int64_t padding = 0;                               ///< pixels on each side, for kPad
  std::array<double, 2> area{0.08, 1.0};                  ///< fraction of the image's area, for kResized
  std::array<double, 2> ratio{3.0 / 4.0, 4.0 / 3.0};      ///< width / height, for kResized
  double flip = 0;                                        ///< probability of a horizontal flip
  Interpolation interpolation = Interpolation::kBicubic;  ///< of the resize and of RandAugment's geometric operations
  bool random_interpolation = false;                      ///< either of the two instead, drawn anew each time
  bool dct_scaling = false;  ///< JPEGs are decoded no larger than kResized needs (decode_scaled_region)
  RandAugmentConfig rand_augment{};
  ColorJitterConfig color_jitter{};
};

struct EvalTransformConfig {
  std::int64_t resize = 0;  ///< short side before the centre crop; 0 = resize straight to the input size
  Interpolation interpolation = Interpolation::kBicubic;
};

/// The crop that CropMode::kResized draws: as torchvision, up to ten tries at a uniform area and a log-uniform aspect
/// ratio, then the largest centre crop within the ratios.
Box draw_resized_crop(ImageSize size, const AugmentConfig& config, const AugmentKey& key);

/// The crop of kResized from an encoded image, of which no more is decoded, to be resized to height × width.
ScaledRegion decode_crop(std::span<const std::uint8_t> encoded, const AugmentConfig& config, const AugmentKey& key,
                         std::int64_t height, std::int64_t width);

/// RandAugment's and colour jitter's operations on an image of height × width, in order.
std::vector<PixelOp> draw_pixel_ops(const AugmentConfig& config, const AugmentKey& key, std::int64_t height,
                                    std::int64_t width);
/// The most that draw_pixel_ops() gives.
std::int64_t most_pixel_ops(const AugmentConfig& config);
/// The same augmentation without them: what is left to do to an image when they are done later.
AugmentConfig without_pixel_ops(AugmentConfig config);

/// What follows the resize, in place: flip, RandAugment, colour jitter of (height, width, 3) pixels.
void augment_pixels(const AugmentConfig& config, const AugmentKey& key, std::int64_t height, std::int64_t width,
                    std::uint8_t* pixels);

/// Crop, resize to height × width, flip, RandAugment, colour jitter; `out` takes (height, width, 3) bytes.
void augment_train(const Image& image, const AugmentConfig& config, const AugmentKey& key, std::int64_t height,
                   std::int64_t width, std::uint8_t* out);

/// The same from an encoded image, of which no more than the crop is decoded. Throws IoError as decode_image() does,
/// where the damage is in the part that it reads.
void augment_train(std::span<const std::uint8_t> encoded, const AugmentConfig& config, const AugmentKey& key,
                   std::int64_t height, std::int64_t width, std::uint8_t* out);

/// The deterministic counterpart for evaluation; `out` takes (height, width, 3) bytes.
void transform_eval(const Image& image, const EvalTransformConfig& config, std::int64_t height, std::int64_t width,
                    std::uint8_t* out);

}  // namespace qm
