// Image: 8-bit RGB pixels, decoded from and encoded to JPEG and PNG in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace qm {

struct Image {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::vector<std::uint8_t> pixels;  ///< (height, width, 3): rows from the top, RGB
};

struct ImageSize {
  std::int64_t height = 0;
  std::int64_t width = 0;

  friend bool operator==(const ImageSize&, const ImageSize&) = default;
};

/// A rectangle of pixels.
struct Box {
  std::int64_t top = 0, left = 0, height = 0, width = 0;

  friend bool operator==(const Box&, const Box&) = default;
};

/// A rectangle whose edges may lie within pixels.
struct RealBox {
  double top = 0, left = 0, height = 0, width = 0;
};

/// Larger images are refused before memory is asked for: a few damaged bytes in a header can claim gigabytes.
inline constexpr std::int64_t kMaxPixels = std::int64_t{1} << 28;
/// libpng's own limit to height and width, reading and writing.
inline constexpr std::int64_t kMaxPngSide = 1'000'000;

/// Decodes a JPEG or PNG, told apart by its first bytes, to what PIL's Image.open(…).convert("RGB") gives: grey is
/// replicated, CMYK and YCCK are read as Adobe writes them, palettes are looked up, alpha is dropped and 16-bit samples
/// keep their upper byte (also grey ones, which PIL saturates). EXIF orientation and colour profiles are ignored. A
/// file that ends before its end marker is an error; damage that JPEG decoders conventionally patch over, PIL's among
/// them, is not. Thread-safe.
///
/// Throws IoError with the cause alone; the caller knows the name to put before it. Where it is memory that lacks,
/// which is no fault of the image, OutOfMemory.
Image decode_image(std::span<const std::uint8_t> bytes);

/// The pixels of decode_image(bytes) under the box that `choose` names once the image's size is known; bit for bit
/// those. Of a JPEG, rows above and blocks beside the box are not brought to pixels and what lies below is not read, so
/// that a file's missing end may go unnoticed. Throws IoError as decode_image() does, ShapeError if the box is empty or
/// leaves the image.
Image decode_region(std::span<const std::uint8_t> bytes, const std::function<Box(ImageSize)>& choose);

/// A part of an image that decoding may have scaled down.
struct ScaledRegion {
  Image image;  ///< whole pixels, as many as there are under the box
  RealBox box;  ///< in pixels of `image`
};

/// As decode_region(), but a JPEG comes at the smallest of 1/8, 1/4, 1/2 and its whole size at which the box still has
/// the height and width of `least`, from so many fewer coefficients of its blocks: cheaper, and other pixels than those
/// of decode_image() brought to that size. (The scales between are no use: they take longer than the whole size does.)
ScaledRegion decode_scaled_region(std::span<const std::uint8_t> bytes, const std::function<Box(ImageSize)>& choose,
                                  ImageSize least);

/// Encodes as baseline JPEG, 4:2:0, quality 1 to 100. Throws IoError on a quality or an image that JPEG cannot hold.
std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality);

/// Encodes as 8-bit RGB PNG: lossless. Throws IoError on an image without pixels.
std::vector<std::uint8_t> encode_png(const Image& image);

}  // namespace qm
