// EXIF orientations as they are read, applied to pixels, and applied by pack, which stores anew what it changes.
#include "data/exif.h"

#include <gtest/gtest.h>

#include <iterator>

#include "data/pack.h"
#include "data/resample.h"
#include "data/shard.h"
#include "tests/support/damaged_file.h"
#include "tests/support/images.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;
namespace fs = std::filesystem;

// Pixels numbered 0 to 5; PIL's exif_transpose.
TEST(data, exif_orientations_are_those_of_pil) {
  Image image{2, 3, {}};
  for (std::uint8_t pixel = 0; pixel < 6; ++pixel) image.pixels.insert(image.pixels.end(), 3, pixel);
  const char* const expected[] = {"012345", "210543", "543210", "345012", "031425", "304152", "524130", "251403"};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Image turned = upright(image, orientation);
    EXPECT_EQ(turned.height, orientation < 5 ? 2 : 3);
    std::string digits;
    for (int pixel = 0; pixel < 6; ++pixel) digits += static_cast<char>('0' + turned.pixels[pixel * 3]);
    EXPECT_EQ(digits, expected[orientation - 1]) << orientation;
  }
}

/// A TIFF directory of one entry: orientation 6.
const Bytes kTiff = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 18, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0};

TEST(data, exif_is_found_behind_bytes_that_fill_the_space_before_a_marker) {
  Bytes segment = {0xff, 0xe1, 0, static_cast<std::uint8_t>(8 + kTiff.size()), 'E', 'x', 'i', 'f', 0, 0};
  segment.insert(segment.end(), kTiff.begin(), kTiff.end());
  for (const std::size_t fill : {0u, 1u, 2u, 7u}) {
    Bytes bytes = jpeg(1);
    bytes.insert(bytes.begin() + 2, segment.begin(), segment.end());
    bytes.insert(bytes.begin() + 2, fill, 0xff);
    EXPECT_EQ(exif_orientation(bytes), 6) << fill;
    EXPECT_NO_THROW(decode_image(bytes));
  }
  EXPECT_EQ(exif_orientation(Bytes(100, 0xff)), 1);
  Bytes endless = {0xff, 0xd8};
  endless.resize(100, 0xff);
  EXPECT_EQ(exif_orientation(endless), 1);
}

/// kTiff as a chunk, with what some programs put before it.
Bytes exif_chunk(bool prefixed) {
  Bytes data = kTiff;
  if (prefixed) data.insert(data.begin(), {'E', 'x', 'i', 'f', 0, 0});
  const Bytes checksum = prefixed ? Bytes{0x19, 0x0f, 0x88, 0xab} : Bytes{0xd6, 0x67, 0x4b, 0x69};
  Bytes chunk = {0, 0, 0, static_cast<std::uint8_t>(data.size()), 'e', 'X', 'I', 'f'};
  for (const Bytes& part : {data, checksum}) std::ranges::copy(part, std::back_inserter(chunk));
  return chunk;
}

// PIL's exif_transpose turns all of these.
TEST(data, exif_of_a_png_is_found_before_and_behind_its_pixels) {
  const Bytes png = encode_png(slope_image(20, 25, 1));
  constexpr std::size_t kHeaderEnd = 33, kTrailer = 12;
  EXPECT_EQ(exif_orientation(png), 1);
  for (const bool prefixed : {false, true}) {
    const Bytes chunk = exif_chunk(prefixed);
    for (const std::size_t place : {kHeaderEnd, png.size() - kTrailer}) {
      Bytes bytes = png;
      bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(place), chunk.begin(), chunk.end());
      EXPECT_EQ(exif_orientation(bytes), 6) << place;
      EXPECT_NO_THROW(decode_image(bytes));
      for (std::size_t size = 0; size < place + chunk.size(); ++size) {
        EXPECT_EQ(exif_orientation(std::span(bytes).first(size)), 1) << size;
      }
      bytes[place] = 0xff;  // of the length
      EXPECT_EQ(exif_orientation(bytes), 1);
    }
  }
}

TEST(data, exif_that_makes_no_sense_is_upright) {
  Bytes bytes = jpeg(1);
  const std::uint8_t exif[] = {0xff, 0xe1, 0,  34, 'E', 'x', 'i', 'f', 0, 0, 'I', 'I', 42, 0, 8, 0, 0, 0,
                               1,    0,    18, 1,  3,   0,   1,   0,   0, 0, 8,   0,   0,  0, 0, 0, 0, 0};
  bytes.insert(bytes.begin() + 2, std::begin(exif), std::end(exif));
  EXPECT_EQ(exif_orientation(bytes), 8);
  for (std::size_t size = 0; size < 40; ++size)
    EXPECT_EQ(exif_orientation(std::span(bytes).first(size)), size < 38 ? 1 : 8);
  for (std::size_t bit = 16; bit < 38 * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    const int orientation = exif_orientation(bytes);
    EXPECT_TRUE(orientation >= 1 && orientation <= 8);
    bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
  }
}

TEST(data, pack_turns_a_png_when_asked) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "in/ant");
  Bytes png = encode_png(slope_image(20, 25, 1));
  const Bytes chunk = exif_chunk(false);
  png.insert(png.end() - 12, chunk.begin(), chunk.end());
  write_bytes(folder / "in/ant/a.JPEG", png);
  PackOptions options{.input = folder / "in", .split = "train", .output = folder / "out"};
  options.apply_exif = true;
  pack(options);
  Bytes packed;
  ShardSet(options.output, "train").read(0, packed);
  EXPECT_EQ(packed, encode_jpeg(upright(decode_image(png), 6), 90));
}

TEST(data, pack_shrinks_and_turns_images_when_asked) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "in/ant");
  const Bytes large = jpeg(1, 100, 60), small = jpeg(2, 30, 40);
  Bytes turned = jpeg(3, 20, 25);
  const std::uint8_t exif[] = {0xff, 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8,
                               0,    1,    1, 18, 0,   3,   0,   0,   0, 1, 0,   6,   0, 0,  0, 0, 0, 0};
  turned.insert(turned.begin() + 2, std::begin(exif), std::end(exif));
  write_bytes(folder / "in/ant/a.jpg", large);
  write_bytes(folder / "in/ant/b.jpg", small);
  write_bytes(folder / "in/ant/c.jpg", turned);
  PackOptions options{.input = folder / "in", .split = "train", .output = folder / "out"};
  const auto packed = [&] {
    pack(options);
    const ShardSet set(options.output, "train");
    std::vector<Bytes> by_id(3);
    for (std::int64_t i = 0; i < 3; ++i) set.read(i, by_id[set.id(i)]);
    return by_id;
  };
  EXPECT_EQ(packed(), (std::vector<Bytes>{large, small, turned}));
  options.overwrite = true;
  options.short_side = 30;
  options.quality = 80;
  const Image image = decode_image(large);
  const Bytes shrunk = encode_jpeg(resize(image, {0, 0, 100, 60}, 50, 30, Interpolation::kBicubic), 80);
  EXPECT_EQ(packed(), (std::vector<Bytes>{shrunk, small, turned}));
  options.apply_exif = true;
  const Bytes upright_bytes = encode_jpeg(upright(decode_image(turned), 6), 80);
  EXPECT_EQ(packed(), (std::vector<Bytes>{shrunk, small, upright_bytes}));
  EXPECT_EQ(decode_image(upright_bytes).height, 25);
  options.quality = 101;
  EXPECT_THROW(pack(options), ConfigError);
}

}  // namespace
}  // namespace qm
