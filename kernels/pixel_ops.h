// Pixel operations: what RandAugment and colour jitter do to an image. Point-wise ones, sharpness and blur give bit for
// bit what PIL gives, geometric ones the same up to its rounding. A GPU gives bit for bit what the CPU gives, all of
// them.
//
// The unit of all numbers is PIL's: pixels 0 to 255, factors that are 1 for no change.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/base/device.h"
#include "kernels/interpolation.h"

namespace qm {

enum class PixelOpKind : std::int32_t {
  kNone,          ///< leaves the image as it is
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

/// A plain structure, which kernels read from device memory.
struct PixelOp {
  PixelOpKind kind = PixelOpKind::kNone;
  double argument = 0;
  std::array<double, 6> matrix{1, 0, 0, 0, 1, 0};         ///< of kAffine
  Interpolation interpolation = Interpolation::kBicubic;  ///< of kAffine
  std::array<std::uint8_t, 3> fill{};                     ///< of kAffine

  friend bool operator==(const PixelOp&, const PixelOp&) = default;
};

/// images (batch, height, width, 3) → out, of the same shape and not overlapping: the operations of each image's row of
/// ops (batch, ops_per_image), one after another. An image has less than 2³⁰ pixels. Nothing is random and nothing
/// depends on the batch: an image comes out the same alone.
struct PixelOps {
  std::int64_t batch, height, width;
  std::int64_t ops_per_image;
  const std::uint8_t* images;
  const PixelOp* ops;  ///< device memory
  bool blurs;          ///< kBlur may be among the ops; else it does nothing, and a GPU queues no passes for it
  std::uint8_t* out;
};

/// Throws ShapeError on sizes that make no sense.
void pixel_ops(const Stream& stream, const PixelOps& p);

namespace cpu {
void pixel_ops(const PixelOps& p);

/// One operation on (height, width, 3) pixels in place. `scratch` is working memory to be reused.
void apply_pixel_op(const PixelOp& op, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
                    std::vector<std::uint8_t>& scratch);
}  // namespace cpu

namespace cuda {
void pixel_ops(const Stream& stream, const PixelOps& p);
}  // namespace cuda

}  // namespace qm
