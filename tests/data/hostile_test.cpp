// Real ImageNet images and damaged copies of them.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "data/image.h"
#include "data/pack.h"
#include "data/shard.h"
#include "data/tar.h"
#include "tests/support/damaged_file.h"
#include "tests/support/images.h"
#include "tests/support/real_images.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;
namespace fs = std::filesystem;

Bytes contents_of(const InputFile& archive, const TarEntry& entry) {
  Bytes bytes(entry.size);
  archive.read(entry.offset, bytes);
  return bytes;
}

std::vector<TarEntry> entries_of_archive(const InputFile& archive) {
  return list_tar(archive, 0, archive.size()).entries;
}

TEST(data, hostile_slow_all_real_images_pack_verify_and_decode) {
  QM_NEEDS_REAL_IMAGES();
  const TemporaryFolder folder;
  const PackReport report =
      pack({.input = real_images_path(), .split = "train", .output = folder / "out", .shards = 3, .threads = 2});
  EXPECT_EQ(report.images, 295);
  EXPECT_TRUE(report.skipped.empty());
  std::int64_t verified = 0;
  for (const std::string& file : report.files) verified += verify_shard(file).samples;
  EXPECT_EQ(verified, 295);

  const ShardSet set(folder / "out", "train");
  Bytes bytes;
  for (std::int64_t i = 0; i < set.size(); ++i) {
    set.read(i, bytes);
    const Image image = decode_image(bytes);
    ASSERT_EQ(image.height, set.height(i));
    ASSERT_EQ(image.width, set.width(i));
    // A part of it is the same part, whatever its sampling and mode.
    const Box box{image.height / 3, image.width / 5, (image.height + 1) / 2, (image.width + 1) / 2};
    const Image region = decode_region(bytes, [&](ImageSize) { return box; });
    for (std::int64_t y = 0; y < box.height; ++y) {
      const auto row = image.pixels.begin() + ((box.top + y) * image.width + box.left) * 3;
      ASSERT_TRUE(std::equal(row, row + box.width * 3, region.pixels.begin() + y * box.width * 3)) << set.describe(i);
    }
    // And so it is of the image scaled down, whose pixels are close to means of the image's.
    const auto at_half = [&](const Box& part) {
      return decode_scaled_region(bytes, [&](ImageSize) { return part; }, {part.height / 2, part.width / 2}).image;
    };
    const Image half = at_half({0, 0, image.height, image.width}), half_region = at_half(box);
    ASSERT_EQ(half.height, (image.height + 1) / 2) << set.describe(i);
    ASSERT_EQ(half.width, (image.width + 1) / 2);
    double difference = 0;
    for (std::int64_t y = 0; y < image.height / 2; ++y) {
      for (std::int64_t x = 0; x < image.width / 2 * 3; ++x) {
        const auto* four = image.pixels.data() + (2 * y * image.width + x / 3 * 2) * 3 + x % 3;
        const double mean = (four[0] + four[3] + four[image.width * 3] + four[image.width * 3 + 3]) / 4.0;
        difference += std::abs(half.pixels[static_cast<std::size_t>(y * half.width * 3 + x)] - mean);
      }
    }
    EXPECT_LT(difference / static_cast<double>(half.height * half.width * 3), 4) << set.describe(i);
    for (std::int64_t y = 0; y < half_region.height; ++y) {
      const auto row = half.pixels.begin() + ((box.top / 2 + y) * half.width + box.left / 2) * 3;
      ASSERT_TRUE(std::equal(row, row + half_region.width * 3, half_region.pixels.begin() + y * half_region.width * 3))
          << set.describe(i);
    }
  }
}

TEST(data, hostile_slow_damaged_copies_are_named_and_the_rest_is_packed) {
  QM_NEEDS_REAL_IMAGES();
  const InputFile archive(real_images_path());
  const std::vector<TarEntry> entries = entries_of_archive(archive);
  const TemporaryFolder folder;
  fs::create_directories(folder / "in/class");
  std::map<std::string, Bytes> good;
  std::set<std::string> bad, either;
  const auto add = [&](const std::string& name, const Bytes& bytes, auto& names) {
    const std::string path = folder / ("in/class/" + name);
    write_bytes(path, bytes);
    if constexpr (std::is_same_v<decltype(names), std::map<std::string, Bytes>&>) {
      names[path] = bytes;
    } else {
      names.insert(path);
    }
  };
  std::uint32_t random = 1;
  for (std::size_t i = 0; i < 50; ++i) {
    const Bytes whole = contents_of(archive, entries[i * 5]);
    add(concat("whole-", i, ".JPEG"), whole, good);
    Bytes cut = whole;
    cut.resize(whole.size() * i / 50);
    add(concat("cut-", i, ".JPEG"), cut, bad);
    Bytes flipped = whole;
    for (int k = 0; k < 20; ++k) {
      random = random * 1664525u + 1013904223u;
      flipped[(random >> 4) % flipped.size()] ^= static_cast<std::uint8_t>(1u << k % 8);
    }
    add(concat("flipped-", i, ".JPEG"), flipped, either);
  }
  add("empty.JPEG", {}, bad);
  add("text.JPEG", Bytes(100, 'x'), bad);
  add("one.JPEG", encode_jpeg(noise_image(1, 1, 1), 90), good);
  add("long.JPEG", encode_jpeg(noise_image(3, 20000, 2), 90), good);
  add("png_inside.JPEG", encode_png(noise_image(20000, 3, 3)), good);
  add("jpeg_inside.png", encode_jpeg(noise_image(20, 30, 4), 90), good);

  PackOptions options{.input = folder / "in", .split = "train", .output = folder / "out", .shards = 2};
  options.skip_bad = true;
  const PackReport report = pack(options);
  std::set<std::string> skipped;
  for (const BadImage& image : report.skipped) {
    skipped.insert(image.path);
    EXPECT_NE(image.cause, "");
    EXPECT_TRUE(bad.contains(image.path) || either.contains(image.path)) << image.path << ": " << image.cause;
  }
  for (const std::string& path : bad) EXPECT_TRUE(skipped.contains(path)) << path;
  EXPECT_EQ(report.images + static_cast<std::int64_t>(skipped.size()),
            static_cast<std::int64_t>(good.size() + bad.size() + either.size()));

  const ShardSet set(folder / "out", "train");
  std::set<std::uint64_t> packed;  // digests
  Bytes bytes;
  for (std::int64_t i = 0; i < set.size(); ++i) {
    set.read(i, bytes);
    packed.insert(digest_of(bytes));
  }
  for (const auto& [path, contents] : good) EXPECT_TRUE(packed.contains(digest_of(contents))) << path;
}

TEST(data, hostile_slow_an_archive_cut_short_gives_all_that_came_whole) {
  QM_NEEDS_REAL_IMAGES();
  const InputFile archive(real_images_path());
  const std::vector<TarEntry> entries = entries_of_archive(archive);
  for (const std::size_t at : {std::size_t{3}, entries.size() / 2}) {
    const TemporaryFolder folder;
    Bytes bytes(entries[at].offset + entries[at].size / 2);
    archive.read(0, bytes);
    write_bytes(folder / "cut.tar", bytes);
    PackOptions options{.input = folder / "cut.tar", .split = "train", .output = folder / "out"};
    const std::string error = error_of([&] { pack(options); });
    EXPECT_NE(error.find("cut short: " + entries[at].name), std::string::npos) << error;
    options.skip_bad = true;
    const PackReport report = pack(options);
    EXPECT_EQ(report.images, static_cast<std::int64_t>(at));
    EXPECT_EQ(report.skipped.size(), 1u);
  }
}

}  // namespace
}  // namespace qm
