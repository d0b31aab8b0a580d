// Damaged input for a minute: whatever the bytes, our readers throw an IoError or return something sound. Meant to be
// run under AddressSanitizer, where a read beyond the end is a failure too.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "data/exif.h"
#include "data/image.h"
#include "data/pack_source.h"
#include "data/shard.h"
#include "data/shard_index.h"
#include "data/tar.h"
#include "kernels/base/error.h"
#include "tests/support/damaged_file.h"
#include "tests/support/images.h"
#include "tests/support/shard_files.h"
#include "tests/support/tar.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr double kSecondsEach = 20;

class Random {
 public:
  std::uint64_t below(std::uint64_t bound) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return (state_ >> 33) % bound;
  }

 private:
  std::uint64_t state_ = 1;
};

/// Flips, overwrites, cuts, repeats and removes, a few times.
Bytes damaged(Bytes bytes, Random& random) {
  const std::uint64_t changes = 1 + random.below(6);
  for (std::uint64_t i = 0; i < changes && !bytes.empty(); ++i) {
    const std::uint64_t at = random.below(bytes.size());
    const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    const auto length = static_cast<std::ptrdiff_t>(1 + random.below(std::min<std::uint64_t>(bytes.size() - at, 16)));
    switch (random.below(6)) {
      case 0:
        *place ^= static_cast<std::uint8_t>(1u << random.below(8));
        break;
      case 1:
        *place = static_cast<std::uint8_t>(random.below(256));
        break;
      case 2:
        *place = random.below(2) == 0 ? 0xff : 0;
        break;
      case 3:
        bytes.resize(at);
        break;
      case 4:
        bytes.erase(place, place + length);
        break;
      default: {
        const Bytes part(place, place + length);
        bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(random.below(bytes.size())), part.begin(), part.end());
      }
    }
  }
  return bytes;
}

/// Calls round() for a while; only IoErrors may come out of it, of some of its calls.
void fuzz(const char* what, const std::function<void(Random&)>& round) {
  Random random;
  std::int64_t rounds = 0, refused = 0;
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < kSecondsEach) {
    ++rounds;
    try {
      round(random);
    } catch (const IoError& error) {
      ++refused;
      ASSERT_STRNE(error.what(), "");
    }
  }
  std::printf("%lld %s, %lld refused\n", static_cast<long long>(rounds), what, static_cast<long long>(refused));
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, rounds);
}

/// Feeds damaged copies of `seeds` to `read`.
void fuzz(const std::vector<Bytes>& seeds, const std::function<void(const Bytes&)>& read) {
  fuzz("inputs", [&](Random& random) {
    // In memory of exactly its size, so that a sanitizer sees every byte beyond it.
    const Bytes bytes = damaged(seeds[random.below(seeds.size())], random);
    read(bytes);
  });
}

TEST(data, fuzz_slow_image_decoders) {
  Bytes exif = encode_jpeg(slope_image(16, 24, 3), 80);
  const std::uint8_t tag[] = {0xff, 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8,
                              0,    1,    1, 18, 0,   3,   0,   0,   0, 1, 0,   6,   0, 0,  0, 0, 0, 0};
  exif.insert(exif.begin() + 2, std::begin(tag), std::end(tag));
  Bytes exif_png = encode_png(slope_image(12, 10, 4));
  constexpr std::size_t kTagPrefix = 10, kHeaderEnd = 33;
  Bytes chunk = {0, 0, 0, sizeof tag - kTagPrefix, 'e', 'X', 'I', 'f'};
  chunk.insert(chunk.end(), std::begin(tag) + kTagPrefix, std::end(tag));
  chunk.resize(chunk.size() + 4);  // a checksum that is wrong: the chunk is passed over by libpng
  exif_png.insert(exif_png.begin() + kHeaderEnd, chunk.begin(), chunk.end());
  const std::vector<Bytes> seeds = {
      encode_jpeg(noise_image(17, 23, 1), 60), encode_jpeg(slope_image(40, 33, 2), 90), exif,
      encode_png(noise_image(9, 7, 1)),        encode_png(slope_image(20, 20, 2)),      exif_png};
  fuzz(seeds, [](const Bytes& bytes) {
    exif_orientation(bytes);
    const auto part = [](ImageSize size) {
      return Box{size.height / 3, size.width / 4, (size.height + 1) / 2, (size.width + 1) / 2};
    };
    decode_region(bytes, part);
    for (const std::int64_t least : {1, 3}) decode_scaled_region(bytes, part, {least, least});
    const Image image = decode_image(bytes);
    ASSERT_EQ(image.pixels.size(), static_cast<std::size_t>(image.height * image.width * 3));
  });
}

/// So that damage gets past them.
void make_checksums_right(Bytes& tar) {
  for (std::size_t at = 0; at + 512 <= tar.size(); at += 512) {
    if (std::equal(&tar[at + 257], &tar[at + 262], "ustar")) set_tar_checksum(tar, at);
  }
}

TEST(data, fuzz_slow_archives) {
  Bytes tar;
  append_tar_entry(tar, "a/one", Bytes(700, 1));
  append_tar_entry(tar, "long", Bytes(200, 'x'), 'L');
  append_tar_entry(tar, "a/two", Bytes(10, 2));
  append_tar_entry(tar, "pax", {'1', '5', ' ', 'p', 'a', 't', 'h', '=', 'b', '/', 'l', 'o', 'n', 'g', '\n'}, 'x');
  append_tar_entry(tar, "a/three", Bytes(512, 3));
  append_tar_entry(tar, "long link", {'a', '/', 't', 'w', 'o'}, 'K');
  append_tar_entry(tar, "a/link", {}, '1', "a/one");
  append_tar_entry(tar, "./a//again", {}, '1', "a/three");
  append_tar_entry(tar, "a/symbolic", {}, '2', "../a/link");
  append_tar_entry(tar, "a/", {}, '5');
  end_tar(tar);
  append_tar_entry(tar, "b/behind", Bytes(5, 4));
  end_tar(tar);
  const TemporaryFolder folder;
  fuzz({tar}, [&, kinds = std::uint64_t{0}](Bytes bytes) mutable {
    if (++kinds % 2 == 0) make_checksums_right(bytes);
    write_bytes(folder / "a.tar", bytes);
    const InputFile file(folder / "a.tar");
    const TarListing listing = list_tar(file, 0, file.size());
    for (const TarEntry& entry : listing.entries) ASSERT_LE(entry.offset + entry.size, file.size());
    QM_CHECK(listing.problems.empty(), IoError, listing.problems.front());
  });
}

TEST(data, fuzz_slow_sources) {
  const Bytes png = encode_png(noise_image(3, 4, 1));
  Bytes ant, bee, nested, tree;
  for (const char* name : {"a.png", "deeper/b.png", "notes.txt"}) append_tar_entry(ant, name, png);
  append_tar_entry(bee, "c.png", {}, '2', "d.png");
  append_tar_entry(bee, "d.png", png);
  for (Bytes* inner : {&ant, &bee}) end_tar(*inner);
  append_tar_entry(nested, "ant.tar", ant);
  append_tar_entry(nested, "bee.tar", bee);
  append_tar_entry(nested, "cat.tar", Bytes(1024));
  append_tar_entry(tree, "set/ant/", {}, '5');
  for (const char* name : {"set/bee/a.png", "set/bee/b.tar", "set/bee/deeper/d.png", "set/cat/c.png", "set/flat.png"}) {
    append_tar_entry(tree, name, png);
  }
  for (Bytes* outer : {&nested, &tree}) end_tar(*outer);
  const TemporaryFolder folder;
  fuzz({nested, tree}, [&, kinds = std::uint64_t{0}](Bytes bytes) mutable {
    if (++kinds % 2 == 0) make_checksums_right(bytes);
    write_bytes(folder / "a.tar", bytes);
    const PackSource source({.input = folder / "a.tar", .inside = "", .labels = "", .classes = ""});
    for (const SourceImage& image : source.images()) {
      ASSERT_LT(static_cast<std::size_t>(image.label), source.class_names().size());
      ASSERT_EQ(source.read(image).size(), image.bytes);
    }
  });
}

// A guard keeps damage from libhdf5; what passes it is what was written, and appended bytes are noticed too.
TEST(data, fuzz_slow_shards) {
  const TemporaryFolder folder;
  ShardWriter writer(folder.path().string(), "train", 0, 1, {"ant", "bee"});
  for (std::uint64_t id = 0; id < 5; ++id) {
    writer.append(
        {encode_png(noise_image(3, 4, static_cast<std::uint32_t>(id))), static_cast<std::int32_t>(id % 2), id, 3, 4});
  }
  writer.finish();
  writer.publish();
  const Bytes shard = bytes_of_file(writer.path());
  fuzz({shard, Bytes(shard)}, [&](const Bytes& bytes) {
    write_bytes(folder / "damaged.h5", bytes);
    const ShardIndex index = read_shard_index(InputFile(folder / "damaged.h5"));
    ASSERT_EQ(index.samples(), 5);
    ASSERT_LE(index.data.end, bytes.size());
    verify_shard(folder / "damaged.h5");
  });
}

/// Changes some of an index's numbers, as a faulty writer might: its checksums will be right.
void change(ShardIndex& index, Random& random) {
  const auto number = [&]() -> std::uint64_t {
    switch (random.below(4)) {
      case 0: return random.below(6);
      case 1: return ~std::uint64_t{0} - random.below(3);
      case 2: return std::uint64_t{1} << random.below(64);
      default: return random.below(std::uint64_t{1} << 31);
    }
  };
  const std::uint64_t changes = random.below(3);
  for (std::uint64_t i = 0; i < changes; ++i) {
    const std::uint64_t at = random.below(5);
    switch (random.below(9)) {
      case 0: index.offset[at] = number(); break;
      case 1: index.label[at] = static_cast<std::int32_t>(number()); break;
      case 2: index.crc32c[at] = static_cast<std::uint32_t>(number()); break;
      case 3: index.encoding[at] = static_cast<std::uint8_t>(number()); break;
      case 4: index.size[at] = {static_cast<std::uint16_t>(number()), static_cast<std::uint16_t>(number())}; break;
      case 5: index.id[at] = number(); break;
      case 6: index.class_names.pop_back(); break;
      case 7: index.split = std::string(random.below(300), 'x'); break;
      default: index.class_names.assign(random.below(3), std::string(random.below(70), '/'));
    }
    if (index.class_names.empty()) index.class_names = {""};
  }
}

// What a guard vouches for may still be nonsense. Every sample of a set that opens can be asked for.
TEST(data, fuzz_slow_shard_indexes) {
  const TemporaryFolder folder;
  const std::string path = folder / "train-00000-of-00001.h5";
  ShardWriter writer(folder.path().string(), "train", 0, 1, {"ant", "bee"});
  for (std::uint64_t id = 0; id < 5; ++id) {
    writer.append(
        {encode_png(noise_image(3, 4, static_cast<std::uint32_t>(id))), static_cast<std::int32_t>(id % 2), id, 3, 4});
  }
  writer.finish();
  writer.publish();
  const ShardIndex sound = read_shard_index(InputFile(path));
  const Bytes file = bytes_of_file(path);
  const Bytes images(file.begin() + static_cast<std::ptrdiff_t>(sound.data.begin),
                     file.begin() + static_cast<std::ptrdiff_t>(sound.data.end));
  fuzz("indexes", [&](Random& random) {
    ShardIndex index = sound;
    change(index, random);
    write_shard_of(path, index, images);
    const ShardSet set(folder.path(), "train");
    Bytes bytes;
    for (std::int64_t i = 0; i < set.size(); ++i) {
      set.read(i, bytes);
      decode_image(bytes);
    }
    verify_shard(path);
  });
}

}  // namespace
}  // namespace qm
