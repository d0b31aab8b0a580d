#include "data/exif.h"

#include <cstring>

namespace qm {
namespace {

using Bytes = std::span<const std::uint8_t>;

/// A TIFF directory's numbers; reads beyond the end are 0.
struct Tiff {
  Bytes bytes;
  bool little_endian;

  std::uint32_t number(std::size_t offset, int size) const {
    if (offset > bytes.size() || bytes.size() - offset < static_cast<std::size_t>(size)) return 0;
    std::uint32_t value = 0;
    for (int i = 0; i < size; ++i) value = value << 8 | bytes[offset + (little_endian ? size - 1 - i : i)];
    return value;
  }
};

int orientation_of(Bytes tiff_bytes) {
  constexpr std::uint32_t kOrientation = 0x0112, kShort = 3;
  if (tiff_bytes.size() < 8) return 1;
  const Tiff tiff{tiff_bytes, tiff_bytes[0] == 'I'};
  if (tiff.number(2, 2) != 42) return 1;
  const std::size_t directory = tiff.number(4, 4);
  const std::uint32_t entries = tiff.number(directory, 2);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    if (tiff.number(entry, 2) != kOrientation || tiff.number(entry + 2, 2) != kShort) continue;
    const std::uint32_t value = tiff.number(entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace

int exif_orientation(Bytes jpeg) {
  static constexpr std::uint8_t kExif[] = {'E', 'x', 'i', 'f', 0, 0};
  constexpr std::uint8_t kApp1 = 0xe1, kStartOfScan = 0xda;
  if (jpeg.size() < 2 || jpeg[0] != 0xff || jpeg[1] != 0xd8) return 1;
  std::size_t at = 2;
  while (jpeg.size() - at >= 4 && jpeg[at] == 0xff && jpeg[at + 1] != kStartOfScan) {
    const std::size_t length = std::size_t{jpeg[at + 2]} << 8 | jpeg[at + 3];
    if (length < 2 || length > jpeg.size() - at - 2) return 1;
    const Bytes payload = jpeg.subspan(at + 4, length - 2);
    const bool is_exif =
        jpeg[at + 1] == kApp1 && payload.size() > sizeof kExif && std::memcmp(payload.data(), kExif, sizeof kExif) == 0;
    if (is_exif) return orientation_of(payload.subspan(sizeof kExif));
    at += 2 + length;
  }
  return 1;
}

Image upright(const Image& image, int orientation) {
  if (orientation == 1) return image;
  const bool swaps = orientation >= 5;
  const bool flips_rows = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  const bool flips_columns = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  Image turned{swaps ? image.width : image.height, swaps ? image.height : image.width, {}};
  turned.pixels.resize(image.pixels.size());
  for (std::int64_t i = 0; i < turned.height; ++i) {
    for (std::int64_t j = 0; j < turned.width; ++j) {
      const std::int64_t row = flips_rows ? turned.height - 1 - i : i;
      const std::int64_t column = flips_columns ? turned.width - 1 - j : j;
      const std::int64_t from = swaps ? column * image.width + row : row * image.width + column;
      std::memcpy(&turned.pixels[static_cast<std::size_t>(i * turned.width + j) * 3],
                  &image.pixels[static_cast<std::size_t>(from) * 3], 3);
    }
  }
  return turned;
}

}  // namespace qm
