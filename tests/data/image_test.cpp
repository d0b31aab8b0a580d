#include "data/image.h"

#include <gtest/gtest.h>
#include <png.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <string_view>

#include "kernels/base/error.h"
#include "tests/support/images.h"
#include "tests/support/jpegs.h"

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;

/// A file, and what PIL's convert("RGB") made of it.
struct Sample {
  const char* name;
  std::int64_t height, width;
  std::uint64_t digest;
  const char* hex;
};

// clang-format off
constexpr Sample kSamples[] = {
    {"jpeg_420", 13, 18, 0xab372703d43f461bull,
     "ffd8ffe000104a46494600010100000100010000ffdb0043000d090a0b0a080d0b0a0b0e0e0d0f13201513121213271c1e17202e2931"
     "302e292d2c333a4a3e333646372c2d405741464c4e525352323e5a615a50604a51524fffdb0043010e0e0e131113261515264f352d35"
     "4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4fffc00011"
     "08000d001203012200021101031101ffc400160001010100000000000000000000000000060005ffc400251000000404050500000000"
     "000000000000000102040305113112215181f01453617191ffc4001501010100000000000000000000000000000406ffc4001e110002"
     "0104030100000000000000000000010200051121f003041591ffda000c03010002110311003f0034ca4a58494a41ec4365b4993db2f9"
     "60899b1854416a5a5b941acd9942a97ad3c03b77155063776f0d4caab5e1629322999279b0837e961272c36cae6203354e218247c32a"
     "3d479fffd9"
    },
    {"jpeg_Progressive444", 13, 18, 0x60214677816cf3c6ull,
     "ffd8ffe000104a46494600010100000100010000ffdb004300100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d"
     "3c3933383740485c4e404457453738506d51575f626768673e4d71797064785c656763ffdb0043011112121815182f1a1a2f63423842"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363ffc20011"
     "08000d001203011100021101031101ffc4001500010100000000000000000000000000000403ffc40019010002030100000000000000"
     "0000000000030400010206ffda000c0301000210031000000105e151db61a40f9848dea89affc4001910000301010100000000000000"
     "00000000000102031213ffda00080101000105029c89c8f22611328e51ffc40019110003010101000000000000000000000000010203"
     "1213ffda0008010301013f018d4cf53d48b64533a67fffc4001d11000202010500000000000000000000000011010221132251f0f1ff"
     "da0008010201013f01aa4e495c1b3be15b4a826d935d611fffc40014100100000000000000000000000000000020ffda000801010006"
     "3f025fffc400191000020301000000000000000000000000002110113161ffda0008010100013f215e1c0a0a4a3fffda000c03010002"
     "0003000000106d13bfffc40017110101010100000000000000000000000001001051ffda0008010301013f1084ec2d1842ffc4001f11"
     "0002020104030000000000000000000001110021d13151a1b1617181ffda0008010201013f10131990ba60adf00fa8c2891c420bd57c"
     "6df50b4f07a6b9cb84cf6ab5399fffc4001f100002010207000000000000000000000000011121513161718191a1f0ffda0008010100"
     "013f10441be826de051552f6c405b929684148c333ffd9"
    },
    {"jpeg_Grey", 13, 18, 0xf879104aa0581a4dull,
     "ffd8ffe000104a46494600010100000100010000ffdb0043000d090a0b0a080d0b0a0b0e0e0d0f13201513121213271c1e17202e2931"
     "302e292d2c333a4a3e333646372c2d405741464c4e525352323e5a615a50604a51524fffc0000b08000d001201011100ffc400160000"
     "030000000000000000000000000000010305ffc400251000020103040201050000000000000000010203041112000521311314410615"
     "222361ffda0008010100003f0081b06c744fb6c55d5f0cb2248eb1aac49933b1e6c3a1d027923ad591b4d0209d4ed748a42b20181731"
     "4816f89724066bdf855622c41048b13f69d913f09aab6f8e45e1d1b0054fc823c1c1d0d8d5bd5d9a159190cd14691bad8188bb397606"
     "d7b958c0fe762c74c8dcfb691e2a0faf23c854581558836007c2fecb006e2e0960c4f0897ea51432bd19a1f21a763167edcc32c78bdb"
     "2e3ad7ffd9"
    },
    {"jpeg_Cmyk", 8, 8, 0x0cdeeb896c2ea95bull,
     "ffd8ffee000e41646f626500640000000000ffdb004300100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c39"
     "33383740485c4e404457453738506d51575f626768673e4d71797064785c656763ffc000140800080008044311004d11005911004b11"
     "00ffc4001500010100000000000000000000000000000506ffc400211000020104000700000000000000000000010204000305411216"
     "21314262a1ffda000e0443004d0059004b00003f00a5ccf9537cc1eff698cce5e524eb9121dcb68e885d9ae370aa81b3bee40e837519"
     "0f55ffd9"
    },
    {"png_Palette2", 2, 5, 0xb3aa1f9c899cee7full,
     "89504e470d0a1a0a0000000d4948445200000005000000020203000000ed04fece0000000c504c544501020328323cc86400fffefdea"
     "b7f98d0000000274524e5300809b2b4e180000000e4944415478da63906e6078e20000049501c0cd78039f0000000049454e44ae4260"
     "82"
    },
    {"png_Grey1", 2, 9, 0x1c8f1a42867b5448ull,
     "89504e470d0a1a0a0000000d4948445200000009000000020100000000a22dcb7e0000000e4944415478da63d8d4c0e0cb0000061a01"
     "804c7f64840000000049454e44ae426082"
    },
    {"png_GreyAlpha8", 2, 2, 0xe4fdadc6971a3fc7ull,
     "89504e470d0a1a0a0000000d4948445200000002000000020804000000d8bfc5af000000124944415478da63e06210f9cf20d7f08b11"
     "000ad702b7fd55b4210000000049454e44ae426082"
    },
    {"png_Rgba8", 1, 2, 0x681d7f1225ac8c1cull,
     "89504e470d0a1a0a0000000d4948445200000002000000010806000000f4227f8a000000114944415478da6360646266f8f5fbcf7f00"
     "0a0103f7258ad2e80000000049454e44ae426082"
    },
    {"png_Rgb16", 1, 2, 0x504e25f6370885f4ull,
     "89504e470d0a1a0a0000000d49484452000000020000000110020000002bd0349e000000154944415478da6310fadfc0f0ff3fc3fffa"
     "064606002844058f88b0ff030000000049454e44ae426082"
    },
    {"png_Interlaced", 5, 6, 0x3e770bd783228e92ull,
     "89504e470d0a1a0a0000000d49484452000000060000000508020000019e3d3a27000000704944415478da0165009aff003d18fb0067"
     "730f007d49da8a17070039e21600f75ebb00519210a1d384f9b4de0000615919e1e6b5167200e2d11728ab1ce55a7b000423fc358b15"
     "3aa1ae0012a0be9b6ee4113d6084bdb0a16b0ad591ee002c501a90ca4afce024da6433d3dd2f2bda83027a2b7c54c940070000000049"
     "454e44ae426082"
    },
};
// clang-format on

Bytes bytes_of(const Sample& sample) {
  Bytes bytes;
  for (const char* digit = sample.hex; *digit != '\0'; digit += 2) {
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(std::string(digit, 2), nullptr, 16)));
  }
  return bytes;
}

std::string error_of(std::span<const std::uint8_t> bytes) {
  try {
    decode_image(bytes);
  } catch (const IoError& error) {
    return error.what();
  }
  return "";
}

/// A smooth image, which JPEG keeps well.
Image gradient_image(std::int64_t height, std::int64_t width) {
  Image image{height, width, {}};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      image.pixels.push_back(static_cast<std::uint8_t>(40 + 2 * x));
      image.pixels.push_back(static_cast<std::uint8_t>(220 - 2 * y));
      image.pixels.push_back(static_cast<std::uint8_t>(60 + x + y));
    }
  }
  return image;
}

/// A JPEG of one colour, stored as four inverted components (Adobe's CMYK), transformed to YCCK or not.
Bytes flat_ink_jpeg(const std::uint8_t (&stored)[4], J_COLOR_SPACE stored_as) {
  constexpr int kExtent = 16;
  Bytes row;
  for (int x = 0; x < kExtent; ++x) row.insert(row.end(), stored, stored + 4);
  return written_by_libjpeg(
      [&](jpeg_compress_struct& info) {
        info.image_width = info.image_height = kExtent;
        info.input_components = 4;
        info.in_color_space = JCS_CMYK;
        jpeg_set_defaults(&info);
        jpeg_set_colorspace(&info, stored_as);
        jpeg_set_quality(&info, 100, TRUE);
      },
      [&](std::size_t) { return row.data(); });
}

/// Where a JPEG's frame header keeps height and width (two bytes each).
std::size_t extent_offset(const Bytes& jpeg) {
  for (std::size_t i = 2; jpeg[i] == 0xff; i += 2 + 256 * jpeg[i + 2] + jpeg[i + 3]) {
    if (jpeg[i + 1] == 0xc0) return i + 5;
  }
  ADD_FAILURE() << "no baseline frame header";
  return 0;
}

TEST(data, image_decodes_as_pil) {
  for (const auto& sample : kSamples) {
    const Image image = decode_image(bytes_of(sample));
    EXPECT_EQ(image.height, sample.height) << sample.name;
    EXPECT_EQ(image.width, sample.width) << sample.name;
    EXPECT_EQ(digest_of(image.pixels), sample.digest) << sample.name;
  }
}

TEST(data, image_decodes_cmyk_and_ycck) {
  const std::uint8_t inks[][4] = {{200, 100, 50, 220}, {0, 255, 128, 255}, {10, 20, 30, 0}};
  const std::uint8_t colors[][3] = {{173, 86, 43}, {0, 255, 128}, {0, 0, 0}};  // PIL's
  for (int i = 0; i < 3; ++i) {
    const Image cmyk = decode_image(flat_ink_jpeg(inks[i], JCS_CMYK));
    const Image ycck = decode_image(flat_ink_jpeg(inks[i], JCS_YCCK));
    for (std::size_t k = 0; k < cmyk.pixels.size(); ++k) {
      ASSERT_EQ(cmyk.pixels[k], colors[i][k % 3]) << i;
      ASSERT_NEAR(ycck.pixels[k], colors[i][k % 3], 2) << i;  // the colour transform rounds
    }
  }
}

TEST(data, image_ignores_exif_orientation) {
  Bytes bytes = bytes_of(kSamples[0]);
  const std::uint8_t exif[] = {0xff, 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8,
                               0,    1,    1, 18, 0,   3,   0,   0,   0, 1, 0,   6,   0, 0,  0, 0, 0, 0};
  bytes.insert(bytes.begin() + 2, std::begin(exif), std::end(exif));
  EXPECT_EQ(digest_of(decode_image(bytes).pixels), kSamples[0].digest);
}

/// A colour profile under which red is blue, blue red and all is darker: whoever obeyed it would show another picture.
Bytes striking_profile() {
  constexpr std::size_t kHeader = 128, kTable = 4 + 6 * 12, kXyz = 20, kCurve = 16;
  Bytes bytes(kHeader + kTable);
  const auto append = [&](std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(value >> shift));
  };
  const auto set = [&](std::size_t at, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> (24 - 8 * i));
  };
  const auto name = [](const char* text) {
    return std::uint32_t{static_cast<std::uint8_t>(text[0])} << 24 | static_cast<std::uint8_t>(text[1]) << 16 |
           static_cast<std::uint8_t>(text[2]) << 8 | static_cast<std::uint8_t>(text[3]);
  };
  set(8, 0x02100000);  // version 2.1
  set(12, name("mntr")), set(16, name("RGB ")), set(20, name("XYZ ")), set(36, name("acsp"));
  set(24, 2000 << 16 | 1), set(28, 1 << 16);           // 1 January 2000
  set(68, 0xf6d6), set(72, 0x10000), set(76, 0xd32d);  // D50
  set(kHeader, 6);                                     // tags
  const double primaries[3][3] = {{0.1431, 0.0606, 0.7142}, {0.3851, 0.7169, 0.0971}, {0.4361, 0.2225, 0.0139}};
  const char* const tags[3][2] = {{"rXYZ", "rTRC"}, {"gXYZ", "gTRC"}, {"bXYZ", "bTRC"}};
  std::size_t entry = kHeader + 4;
  const auto begin_tag = [&](const char* tag, std::size_t size, const char* type) {
    set(entry, name(tag)), set(entry + 4, static_cast<std::uint32_t>(bytes.size()));
    set(entry + 8, static_cast<std::uint32_t>(size));
    entry += 12;
    append(name(type)), append(0);
  };
  for (int color = 0; color < 3; ++color) {
    begin_tag(tags[color][0], kXyz, "XYZ ");
    for (const double part : primaries[color]) append(static_cast<std::uint32_t>(std::lround(part * 65536)));
    begin_tag(tags[color][1], kCurve - 2, "curv");
    append(1), append(0x04000000);  // to the power of 4, in two bytes, and two that fill
  }
  set(0, static_cast<std::uint32_t>(bytes.size()));
  return bytes;
}

/// A PNG with `profile`, as libpng writes it, which refuses one that makes no sense.
Bytes png_with_profile(const Image& image, const Bytes& profile) {
  Bytes bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &bytes,
      [](png_structp writer, png_bytep from, std::size_t count) {
        auto& to = *static_cast<Bytes*>(png_get_io_ptr(writer));
        to.insert(to.end(), from, from + count);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(image.width), static_cast<png_uint_32>(image.height), 8,
               PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_set_iCCP(png, info, "striking", PNG_COMPRESSION_TYPE_BASE, profile.data(),
               static_cast<png_uint_32>(profile.size()));
  png_write_info(png, info);
  for (std::int64_t y = 0; y < image.height; ++y) png_write_row(png, image.pixels.data() + y * image.width * 3);
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

TEST(data, image_ignores_color_profiles) {
  const Bytes profile = striking_profile();
  const Image image = gradient_image(37, 50);
  const Bytes png = png_with_profile(image, profile);
  EXPECT_FALSE(std::ranges::search(png, std::string_view("iCCP")).empty());
  EXPECT_EQ(decode_image(png).pixels, image.pixels);

  Bytes segment = {0xff, 0xe2, 0, 0};
  std::ranges::copy(std::string_view("ICC_PROFILE\0\1\1", 14), std::back_inserter(segment));  // part 1 of 1
  segment.insert(segment.end(), profile.begin(), profile.end());
  segment[2] = static_cast<std::uint8_t>((segment.size() - 2) >> 8);
  segment[3] = static_cast<std::uint8_t>(segment.size() - 2);
  for (const bool progressive : {false, true}) {
    const Bytes stripped = jpeg_of(image, 2, 2, progressive);
    Bytes bytes = stripped;
    bytes.insert(bytes.begin() + 20, segment.begin(), segment.end());  // behind the JFIF header
    EXPECT_EQ(decode_image(bytes).pixels, decode_image(stripped).pixels);
    const auto choose = [](ImageSize) { return Box{3, 5, 20, 30}; };
    EXPECT_EQ(decode_region(bytes, choose).pixels, decode_region(stripped, choose).pixels);
  }
}

TEST(data, image_png_round_trip_is_exact) {
  for (const auto& [height, width] : {std::pair{1, 1}, {3, 5}, {64, 48}, {1, 300}}) {
    const Image image = noise_image(height, width, 3);
    const Image back = decode_image(encode_png(image));
    EXPECT_EQ(back.height, height);
    EXPECT_EQ(back.width, width);
    EXPECT_EQ(back.pixels, image.pixels);
  }
}

TEST(data, image_jpeg_round_trip_is_close) {
  const Image image = gradient_image(37, 50);
  const Bytes bytes = encode_jpeg(image, 95);
  const Image back = decode_image(bytes);
  ASSERT_EQ(back.height, 37);
  ASSERT_EQ(back.width, 50);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) ASSERT_NEAR(back.pixels[i], image.pixels[i], 6) << i;
  EXPECT_LT(encode_jpeg(image, 30).size(), bytes.size());
}

TEST(data, image_every_truncation_is_an_error) {
  for (const auto& sample : kSamples) {
    const Bytes bytes = bytes_of(sample);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_NE(error_of(std::span(bytes).first(size)), "") << sample.name << " cut to " << size;
    }
  }
}

TEST(data, image_damage_is_an_error_or_an_image) {
  for (const auto& sample : kSamples) {
    Bytes bytes = bytes_of(sample);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      const auto mask = static_cast<std::uint8_t>(1u << bit % 8);
      bytes[bit / 8] ^= mask;
      try {
        const Image image = decode_image(bytes);
        EXPECT_EQ(static_cast<std::int64_t>(image.pixels.size()), image.height * image.width * 3);
      } catch (const IoError& error) {
        EXPECT_STRNE(error.what(), "");
      }
      bytes[bit / 8] ^= mask;
    }
  }
}

/// A JPEG that ends, in good order, after its first `scans` scans.
Bytes first_scans(const Bytes& bytes, int scans) {
  const Bytes start{0xff, 0xda};
  auto end = bytes.begin();
  for (int scan = 0; scan <= scans; ++scan) end = std::search(end + (scan > 0), bytes.end(), start.begin(), start.end());
  Bytes result(bytes.begin(), end);
  result.insert(result.end(), {0xff, 0xd9});
  return result;
}

// Whoever leaves out bad images must not take this for one.
TEST(data, image_lack_of_memory_is_no_fault_of_the_image) {
  const Bytes progressive = jpeg_of(gradient_image(130, 200), 2, 2, true);
  const auto whole = [](ImageSize size) { return Box{0, 0, size.height, size.width}; };
  {
    const LittleJpegMemory little;
    EXPECT_THROW(decode_image(progressive), OutOfMemory);
    EXPECT_THROW(decode_region(progressive, whole), OutOfMemory);
    EXPECT_THROW(decode_image(std::span(progressive).first(20)), IoError);
  }
  EXPECT_NO_THROW(decode_image(progressive));

#ifndef __SANITIZE_ADDRESS__  // which ends the program instead
  Bytes large = encode_jpeg(gradient_image(130, 200), 90);
  for (const std::size_t side : {0u, 2u}) large[extent_offset(large) + side] = 0x3f;  // 192 million pixels or more
  rlimit before;
  getrlimit(RLIMIT_AS, &before);
  rlimit little = before;
  little.rlim_cur = 0;
  setrlimit(RLIMIT_AS, &little);
  EXPECT_THROW(decode_image(large), OutOfMemory);
  setrlimit(RLIMIT_AS, &before);
#endif
}

TEST(data, image_region_equals_a_full_decode) {
  std::uint32_t random = 1;
  const auto below = [&](std::int64_t bound) {
    random = random * 1664525u + 1013904223u;
    return static_cast<std::int64_t>(random >> 8) % bound;
  };
  std::vector<Bytes> files = {encode_png(noise_image(50, 70, 1)), encode_jpeg(gradient_image(150, 219), 90),
                              encode_jpeg(noise_image(97, 64, 2), 60)};
  for (const auto& sample : kSamples) files.push_back(bytes_of(sample));
  const std::uint8_t inks[] = {200, 100, 50, 220};
  files.push_back(flat_ink_jpeg(inks, JCS_CMYK));
  files.push_back(jpeg_of(gradient_image(130, 200), 4, 2, false));
  const Bytes progressive = jpeg_of(gradient_image(130, 200), 2, 2, true);
  for (const int scans : {1, 3, 5}) files.push_back(first_scans(progressive, scans));
  for (const Bytes& bytes : files) {
    const Image whole = decode_image(bytes);
    for (int round = 0; round < 40; ++round) {
      Box box;
      const Image region = decode_region(bytes, [&](ImageSize size) {
        EXPECT_EQ(size, (ImageSize{whole.height, whole.width}));
        box.height = round == 0 ? size.height : 1 + below(size.height);
        box.width = round == 0 ? size.width : 1 + below(size.width);
        box.top = below(size.height - box.height + 1);
        box.left = below(size.width - box.width + 1);
        return box;
      });
      ASSERT_EQ(region.pixels.size(), static_cast<std::size_t>(box.height * box.width * 3));
      for (std::int64_t y = 0; y < box.height; ++y) {
        const auto* expected = whole.pixels.data() + ((box.top + y) * whole.width + box.left) * 3;
        ASSERT_TRUE(std::equal(expected, expected + box.width * 3, region.pixels.data() + y * box.width * 3))
            << box.top << ", " << box.left << ", " << box.height << ", " << box.width;
      }
    }
  }
  for (const Box& box : {Box{0, 0, 0, 1}, Box{-1, 0, 1, 1}, Box{0, 60, 1, 11}}) {
    EXPECT_THROW(decode_region(files[0], [&](ImageSize) { return box; }), ShapeError);
    EXPECT_THROW(decode_region(files[1],
                               [&](ImageSize size) {
                                 return Box{box.top, box.left + size.width - 70, box.height, box.width};
                               }),
                 ShapeError);
  }
}

/// A decoded image at 1 / shrink, as libjpeg gives the whole of it.
Image whole_at(const Bytes& bytes, std::int64_t shrink) {
  return decode_scaled_region(
             bytes, [](ImageSize size) { return Box{0, 0, size.height, size.width}; },
             [&] {
               const Image image = decode_image(bytes);
               return ImageSize{image.height / shrink, image.width / shrink};
             }())
      .image;
}

void expect_scaled_regions_as_needed(const Bytes& bytes) {
  const auto region = [&](const Box& box, ImageSize least) {
    return decode_scaled_region(bytes, [&](ImageSize) { return box; }, least);
  };
  for (const std::int64_t shrink : {1, 2, 4, 8}) {
    const Image whole = whole_at(bytes, shrink);
    ASSERT_EQ(whole.height, (203 + shrink - 1) / shrink);
    ASSERT_EQ(whole.width, (331 + shrink - 1) / shrink);
    for (const Box& box : {Box{0, 0, 203, 331}, Box{17, 33, 120, 160}, Box{101, 7, 80, 81}, Box{43, 211, 160, 120}}) {
      const ImageSize least{box.height / shrink, box.width / shrink};
      const ScaledRegion scaled = region(box, least);
      // The box lies where it lay, and what surrounds it is what the whole image has there.
      const std::int64_t top = box.top / shrink, left = box.left / shrink;
      const double s = static_cast<double>(shrink);
      EXPECT_DOUBLE_EQ(scaled.box.top + static_cast<double>(top), static_cast<double>(box.top) / s);
      EXPECT_DOUBLE_EQ(scaled.box.left + static_cast<double>(left), static_cast<double>(box.left) / s);
      EXPECT_DOUBLE_EQ(scaled.box.height, static_cast<double>(box.height) / s);
      EXPECT_DOUBLE_EQ(scaled.box.width, static_cast<double>(box.width) / s);
      ASSERT_EQ(scaled.image.height, (box.top + box.height + shrink - 1) / shrink - top);
      ASSERT_EQ(scaled.image.width, (box.left + box.width + shrink - 1) / shrink - left);
      for (std::int64_t y = 0; y < scaled.image.height; ++y) {
        const auto* expected = whole.pixels.data() + ((top + y) * whole.width + left) * 3;
        ASSERT_TRUE(std::equal(expected, expected + scaled.image.width * 3,
                               scaled.image.pixels.data() + y * scaled.image.width * 3))
            << shrink << ": " << box.top << ", " << box.left;
      }
      // A pixel more than fits asks for the next larger one.
      const ScaledRegion larger = region(box, {least.height, box.width / shrink + 1});
      EXPECT_DOUBLE_EQ(larger.box.height, shrink > 1 ? 2 * scaled.box.height : scaled.box.height);
    }
  }
}

TEST(data, image_scaled_region_is_no_larger_than_needed) {
  expect_scaled_regions_as_needed(encode_jpeg(gradient_image(203, 331), 90));
  expect_scaled_regions_as_needed(jpeg_of(gradient_image(203, 331), 4, 2, false));
  const Bytes png = encode_png(noise_image(64, 64, 3));
  const ScaledRegion whole =
      decode_scaled_region(png, [](ImageSize) { return Box{8, 16, 32, 40}; }, ImageSize{1, 1});
  EXPECT_EQ(whole.image.pixels, decode_region(png, [](ImageSize) { return Box{8, 16, 32, 40}; }).pixels);
  EXPECT_EQ(whole.box.height, 32);
}

TEST(data, image_errors_name_the_cause) {
  EXPECT_EQ(error_of({}), "empty file");
  const std::string text = "not an image";
  EXPECT_EQ(error_of({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}),
            "neither JPEG nor PNG by its first bytes");
  Bytes jpeg = bytes_of(kSamples[0]);
  EXPECT_EQ(error_of(std::span(jpeg).first(jpeg.size() - 1)), "JPEG: data end before the image does");
  const Bytes png = encode_png(noise_image(4, 4, 1));
  EXPECT_EQ(error_of(std::span(png).first(png.size() - 1)), "PNG: data end before the image does");

  const std::size_t extent = extent_offset(jpeg);
  for (int i = 0; i < 4; ++i) jpeg[extent + i] = 0xfd;
  EXPECT_EQ(error_of(jpeg), "image of 65021 x 65021 pixels: expected 1 to 268435456");
}

TEST(data, image_png_has_sides_as_long_as_libpng_allows) {
  for (const bool upright : {false, true}) {
    const auto strip = [&](std::int64_t length) { return noise_image(upright ? length : 1, upright ? 1 : length, 1); };
    EXPECT_EQ(decode_image(encode_png(strip(kMaxPngSide))).pixels.size(), static_cast<std::size_t>(kMaxPngSide) * 3);
    EXPECT_THROW(encode_png(strip(kMaxPngSide + 1)), IoError);
  }
}

TEST(data, image_encoders_refuse_what_they_cannot_hold) {
  const Image image = noise_image(4, 4, 1);
  EXPECT_THROW(encode_jpeg(image, 0), IoError);
  EXPECT_THROW(encode_jpeg(image, 101), IoError);
  EXPECT_THROW(encode_jpeg(noise_image(1, 70000, 1), 90), IoError);
  EXPECT_THROW(encode_jpeg(Image{}, 90), IoError);
  EXPECT_THROW(encode_png(Image{}), IoError);
  EXPECT_THROW(encode_png(Image{4, 4, Bytes(47)}), IoError);
}

}  // namespace
}  // namespace qm
