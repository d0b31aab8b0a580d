// Pixel operations: what RandAugment and colour jitter do to an image. Point-wise ones, sharpness and blur give bit for
// bit what PIL gives, geometric ones the same up to its rounding.
//
// The unit of all numbers is PIL's: pixels 0 to 255, factors that are 1 for no change.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "data/resample.h"

namespace qm {

enum class PixelOpKind {
  kAutoContrast,  ///< each channel's range is stretched to 0 … 255
  kEqualize,      ///< each channel's histogram is flattened
  kInvert,
  kPosterize,    ///< keeps the upper `argument` bits, 0 to 8
  kSolarize,     ///< inverts values of at least `argument`
  kSolarizeAdd,  ///< adds `argument` to values below 128
  // The image is taken away from, or towards, a duller one: dull + argument · (image − dull), clipped.
  kColor,       ///< dull is the image in grey
  kContrast,    ///< dull is its mean grey
  kBrightness,  ///< dull is black
  kSharpness,   ///< dull is a 3×3 smoothed copy; the outermost pixels stay
  kHue,         ///< turns the hue by `argument` of a full turn, −½ to ½
  kBlur,        ///< Gaussian of deviation `argument` pixels, as three box filters an axis
  kAffine,  ///< pixel (x, y) comes from (m₀x + m₁y + m₂, m₃x + m₄y + m₅), pixel centres at ½; `fill` from outside
};

struct PixelOp {
  PixelOpKind kind = PixelOpKind::kInvert;
  double argument = 0;
  std::array<double, 6> matrix{1, 0, 0, 0, 1, 0};         ///< of kAffine
  Interpolation interpolation = Interpolation::kBicubic;  ///< of kAffine
  std::array<std::uint8_t, 3> fill{};                     ///< of kAffine

  friend bool operator==(const PixelOp&, const PixelOp&) = default;
};

/// Applies `op` to (height, width, 3) pixels in place. `scratch` is working memory to be reused.
void apply_pixel_op(const PixelOp& op, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
                    std::vector<std::uint8_t>& scratch);

/// The matrix of a rotation by `degrees` counter-clockwise around the middle of an image.
std::array<double, 6> rotation_matrix(double degrees, std::int64_t height, std::int64_t width);

}  // namespace qm
