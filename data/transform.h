// Geometry of images: resampling, crops, flips, and the two pipelines that bring an image to the model's input size.
#pragma once

#include <array>
#include <cstdint>

#include "data/image.h"

namespace qm {

enum class Interpolation { kBilinear, kBicubic };

enum class CropMode {
  kNone,
  kPad,      ///< pad with zeros on each side, then a random crop of the image's own size
  kResized,  ///< random area and aspect ratio, resized to the input ("Inception crop")
};

/// A rectangle of pixels.
struct Box {
  std::int64_t top = 0, left = 0, height = 0, width = 0;

  friend bool operator==(const Box&, const Box&) = default;
};

/// The part of `image` under `crop`, resampled to height × width with an antialiasing filter, rows before columns: bit
/// for bit what image.crop(…).resize(…) of PIL up to version 12 gives (13 takes the columns of tall images first). The
/// filter never sees pixels outside the crop. Throws ShapeError unless `crop` lies within the image and has pixels, and
/// the result has 1 to kMaxPixels.
Image resize(const Image& image, const Box& crop, std::int64_t height, std::int64_t width, Interpolation interpolation);

/// The pixels under `box`, which may leave the image: black outside.
Image crop_padded(const Image& image, const Box& box);

/// The box of a centre crop, with torchvision's rounding; it leaves an image that is smaller than the crop.
Box center_crop_box(const Image& image, std::int64_t height, std::int64_t width);

/// Mirrors (height, width, 3) pixels left to right in place.
void flip_horizontal(std::uint8_t* pixels, std::int64_t height, std::int64_t width);

struct AugmentConfig {
  CropMode crop = CropMode::kNone;
  std::int64_t padding = 0;                           ///< pixels on each side, for kPad
  std::array<double, 2> area{0.08, 1.0};              ///< fraction of the image's area, for kResized
  std::array<double, 2> ratio{3.0 / 4.0, 4.0 / 3.0};  ///< width / height, for kResized
  double flip = 0;                                    ///< probability of a horizontal flip
  Interpolation interpolation = Interpolation::kBicubic;
};

struct EvalTransformConfig {
  std::int64_t resize = 0;  ///< short side before the centre crop; 0 = resize straight to the input size
  Interpolation interpolation = Interpolation::kBicubic;
};

/// Who an augmentation is drawn for. Nothing else enters the draw, so it does not change with ranks or threads.
struct AugmentKey {
  std::uint64_t seed = 0;
  std::uint32_t epoch = 0;
  std::uint32_t position = 0;  ///< in the epoch's order
};

/// The crop that CropMode::kResized draws: as torchvision, up to ten tries at a uniform area and a log-uniform aspect
/// ratio, then the largest centre crop within the ratios.
Box draw_resized_crop(const Image& image, const AugmentConfig& config, const AugmentKey& key);

/// Crop, resize to height × width, flip; `out` takes (height, width, 3) bytes.
void augment_train(const Image& image, const AugmentConfig& config, const AugmentKey& key, std::int64_t height,
                   std::int64_t width, std::uint8_t* out);

/// The deterministic counterpart for evaluation; `out` takes (height, width, 3) bytes.
void transform_eval(const Image& image, const EvalTransformConfig& config, std::int64_t height, std::int64_t width,
                    std::uint8_t* out);

}  // namespace qm
