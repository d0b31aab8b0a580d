#include "data/exif.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "data/shard.h"

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

constexpr std::array<std::uint8_t, 6> kExif = {'E', 'x', 'i', 'f', 0, 0};

bool begins_with(Bytes bytes, Bytes start) {
  return bytes.size() >= start.size() && std::ranges::equal(bytes.first(start.size()), start);
}

/// What a JPEG's first APP1 segment of EXIF holds, before the first scan; empty where there is none.
Bytes tiff_of_jpeg(Bytes jpeg) {
  constexpr std::uint8_t kApp1 = 0xe1, kStartOfScan = 0xda;
  std::size_t at = 2;
  while (jpeg.size() - at >= 4 && jpeg[at] == 0xff && jpeg[at + 1] != kStartOfScan) {
    if (jpeg[at + 1] == 0xff) {  // any number of these may fill the space before a marker
      ++at;
      continue;
    }
    const std::size_t length = std::size_t{jpeg[at + 2]} << 8 | jpeg[at + 3];
    if (length < 2 || length > jpeg.size() - at - 2) return {};
    const Bytes payload = jpeg.subspan(at + 4, length - 2);
    if (jpeg[at + 1] == kApp1 && begins_with(payload, kExif)) return payload.subspan(kExif.size());
    at += 2 + length;
  }
  return {};
}

/// What a PNG's eXIf chunk holds, which may lie behind the pixels; empty where there is none.
Bytes tiff_of_png(Bytes png) {
  static constexpr std::array<std::uint8_t, 4> kType = {'e', 'X', 'I', 'f'};
  constexpr std::size_t kSignature = 8, kAround = 12;  // length and type before a chunk's data, a checksum behind them
  png = png.subspan(kSignature);
  while (png.size() >= kAround) {
    const std::size_t length = Tiff{png, false}.number(0, 4);
    if (length > png.size() - kAround) return {};
    Bytes data = png.subspan(8, length);
    if (begins_with(png.subspan(4), kType)) {
      while (begins_with(data, kExif)) data = data.subspan(kExif.size());  // some programs put it there too
      return data;
    }
    png = png.subspan(kAround + length);
  }
  return {};
}

}  // namespace

int exif_orientation(Bytes encoded) {
  const auto encoding = encoding_of(encoded);
  if (!encoding) return 1;
  return orientation_of(*encoding == Encoding::kJpeg ? tiff_of_jpeg(encoded) : tiff_of_png(encoded));
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
