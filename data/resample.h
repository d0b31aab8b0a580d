// Resampling: the part of an image under a box, brought to another size with an antialiasing filter.
#pragma once

#include <cstdint>

#include "data/image.h"
#include "kernels/interpolation.h"

namespace qm {

/// Pixels somewhere in memory: (height, width, 3) with `row_bytes` between rows.
struct PixelView {
  const std::uint8_t* pixels;
  std::int64_t height, width, row_bytes;

  const std::uint8_t* row(std::int64_t y) const { return pixels + y * row_bytes; }
};

/// The pixels of `image` under `box`, which must lie within it.
PixelView view_of(const Image& image, const Box& box);

/// The part of `image` under `crop`, resampled to height × width with an antialiasing filter, rows before columns: bit
/// for bit what image.crop(…).resize(…) of PIL up to version 12 gives (13 takes the columns of tall images first). The
/// filter never sees pixels outside the crop. Throws ShapeError unless `crop` lies within the image and has pixels, and
/// the result has 1 to kMaxPixels.
Image resize(const Image& image, const Box& crop, std::int64_t height, std::int64_t width, Interpolation interpolation);

/// The pixels under `part` of resize(image, whole, to.height, to.width): the same bits for the work of `part` alone.
/// `to` may have more than kMaxPixels. Throws ShapeError unless `part` has pixels, at most kMaxPixels, and lies within
/// `to`.
Image resize_part(const Image& image, ImageSize to, const Box& part, Interpolation interpolation);

/// resize() into `out`, (height, width, 3) bytes, unchecked.
void resize_into(PixelView in, std::int64_t height, std::int64_t width, Interpolation interpolation, std::uint8_t* out);

/// The same of the part of `in` under `box`, whose edges may lie within pixels; the filter sees all of `in`.
void resize_into(PixelView in, const RealBox& box, std::int64_t height, std::int64_t width, Interpolation interpolation,
                 std::uint8_t* out);

}  // namespace qm
