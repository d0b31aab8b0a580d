#include "data/shard.h"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <chrono>
#include <thread>

#include "data/guarded_file.h"
#include "data/hdf5_handle.h"
#include "data/shard_index.h"
#include "tests/support/damaged_file.h"
#include "tests/support/shard_files.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;

const std::vector<std::string> kClasses = {"cat", "dög"};

/// Bytes that begin like a JPEG (or PNG) and are told apart by `content`.
Bytes encoded(std::uint8_t content, std::size_t size, Encoding encoding = Encoding::kJpeg) {
  Bytes bytes =
      encoding == Encoding::kJpeg ? Bytes{0xFF, 0xD8, 0xFF} : Bytes{0x89, 'P', 'N', 'G', 0x0D, 0x0A, 0x1A, 0x0A};
  bytes.resize(size, content);
  return bytes;
}

void write_shard(const std::string& folder, std::int64_t number, std::int64_t count,
                 const std::vector<ShardSample>& samples, const std::vector<std::string>& classes = kClasses) {
  ShardWriter writer(folder, "train", number, count, classes);
  for (const ShardSample& sample : samples) writer.append(sample);
  writer.finish();
  writer.publish();
}

/// Two shards with three samples.
struct SmallSet {
  SmallSet() {
    write_shard(folder.path(), 0, 2, {{bytes[0], 1, 2, 30, 40}, {bytes[1], 0, 0, 50, 60}});
    write_shard(folder.path(), 1, 2, {{bytes[2], 1, 1, 65535, 1}});
  }
  TemporaryFolder folder;
  const std::vector<Bytes> bytes = {encoded(1, 100), encoded(2, 3), encoded(3, 5000, Encoding::kPng)};
  const std::string first = folder / "train-00000-of-00002.h5";
  const std::string second = folder / "train-00001-of-00002.h5";
};

void read_all(const std::string& folder) {
  const ShardSet set(folder, "train");
  Bytes bytes;
  for (std::int64_t i = 0; i < set.size(); ++i) set.read(i, bytes);
}

TEST(data, shard_round_trip) {
  const SmallSet small;
  const ShardSet set(small.folder.path(), "train");
  ASSERT_EQ(set.size(), 3);
  EXPECT_EQ(set.class_names(), kClasses);
  const std::int32_t labels[] = {1, 0, 1};
  const std::uint64_t ids[] = {2, 0, 1};
  const std::int64_t heights[] = {30, 50, 65535}, widths[] = {40, 60, 1};
  for (std::int64_t i = 0; i < 3; ++i) {
    Bytes bytes;
    set.read(i, bytes);
    EXPECT_EQ(bytes, small.bytes[i]);
    EXPECT_EQ(set.label(i), labels[i]);
    EXPECT_EQ(set.id(i), ids[i]);
    EXPECT_EQ(set.height(i), heights[i]);
    EXPECT_EQ(set.width(i), widths[i]);
  }
  EXPECT_EQ(set.describe(2), small.second + ": sample 0 (id 1)");
  EXPECT_THROW(set.label(3), Error);
  EXPECT_THROW(set.label(-1), Error);
  EXPECT_EQ(entries_in(small.folder.path()).size(), 2u);
}

TEST(data, shard_report) {
  const SmallSet small;
  const ShardReport report = verify_shard(small.first);
  EXPECT_EQ(report.split, "train");
  EXPECT_EQ(report.samples, 2);
  EXPECT_EQ(report.data_bytes, 103u);
  EXPECT_EQ(report.file_bytes, std::filesystem::file_size(small.first));
  EXPECT_EQ(report.jpegs, 2);
  EXPECT_EQ(report.pngs, 0);
  EXPECT_EQ(report.smallest_side, 30);
  EXPECT_EQ(report.largest_side, 60);
  EXPECT_EQ(report.samples_per_class, (std::vector<std::int64_t>{1, 1}));
  EXPECT_EQ(verify_shard(small.second).pngs, 1);
}

TEST(data, shard_same_content_same_bytes) {
  const SmallSet one;
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5's time stamps, if any, count seconds
  const SmallSet other;
  EXPECT_EQ(bytes_of_file(one.first), bytes_of_file(other.first));
  EXPECT_EQ(bytes_of_file(one.second), bytes_of_file(other.second));
}

TEST(data, shard_is_plain_hdf5_with_contiguous_images) {
  const SmallSet small;
  const Hdf5Session session;
  const Hdf5Id file(H5Fopen(small.first.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  const Hdf5Id data(H5Dopen2(file, "data", H5P_DEFAULT));
  Bytes bytes(103);
  ASSERT_GE(H5Dread(data, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()), 0);
  EXPECT_EQ(Bytes(bytes.begin(), bytes.begin() + 100), small.bytes[0]);
  EXPECT_EQ(Bytes(bytes.begin() + 100, bytes.end()), small.bytes[1]);
  EXPECT_EQ(H5Dget_offset(data), shard_data_begin());
}

TEST(data, shard_digest_follows_content_and_order_not_division) {
  const SmallSet small;
  const std::uint64_t digest = ShardSet(small.folder.path(), "train").digest();
  const auto digest_of = [](const std::vector<ShardSample>& samples, const std::vector<std::string>& classes) {
    const TemporaryFolder folder;
    write_shard(folder.path(), 0, 1, samples, classes);
    return ShardSet(folder.path(), "train").digest();
  };
  const std::vector<ShardSample> samples = {
      {small.bytes[0], 1, 2, 30, 40}, {small.bytes[1], 0, 0, 50, 60}, {small.bytes[2], 1, 1, 65535, 1}};
  EXPECT_EQ(digest_of(samples, kClasses), digest);
  EXPECT_NE(digest_of(samples, {"cat", "dog"}), digest);
  EXPECT_NE(digest_of({samples[1], samples[0], samples[2]}, kClasses), digest);
  std::vector<ShardSample> changed = samples;
  changed[0].label = 0;
  EXPECT_NE(digest_of(changed, kClasses), digest);
  const Bytes other_image = encoded(9, 100);
  changed = samples;
  changed[0].bytes = other_image;
  EXPECT_NE(digest_of(changed, kClasses), digest);
}

TEST(data, shard_every_flipped_byte_is_detected) {
  const SmallSet small;
  expect_every_flip_detected(small.first, [&] { verify_shard(small.first); });
}

TEST(data, shard_set_detects_every_flipped_byte_when_read) {
  const SmallSet small;
  expect_every_flip_detected(small.first, [&] { read_all(small.folder.path()); });
}

TEST(data, shard_every_length_is_detected) {
  const SmallSet small;
  expect_every_length_detected(small.first, [&] { verify_shard(small.first); });
}

TEST(data, shard_sample_errors_name_shard_sample_and_cause) {
  const SmallSet small;
  const ShardSet set(small.folder.path(), "train");
  Bytes file = bytes_of_file(small.first), bytes;
  file[shard_data_begin() + 102] ^= 1;
  write_bytes(small.first, file);
  EXPECT_NO_THROW(set.read(0, bytes));
  EXPECT_EQ(error_of([&] { set.read(1, bytes); }),
            small.first + ": sample 1 (id 0): damaged: its bytes do not match their checksum");
  std::filesystem::resize_file(small.first, shard_data_begin() + 101);
  EXPECT_EQ(error_of([&] { set.read(1, bytes); }), concat(small.first, ": ends at byte ", shard_data_begin() + 101,
                                                          ", 2 bytes too early, in sample 1 (id 0)"));
}

TEST(data, shard_reading_is_thread_safe) {
  const SmallSet small;
  const ShardSet set(small.folder.path(), "train");
  std::vector<std::jthread> threads;
  std::vector<int> right(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Bytes bytes;
      for (int i = 0; i < 3000; ++i) {
        set.read(i % 3, bytes);
        right[t] += bytes == small.bytes[i % 3];
      }
    });
  }
  threads.clear();
  EXPECT_EQ(right, std::vector<int>(4, 3000));
}

TEST(data, shard_set_must_be_complete_and_consistent) {
  const SmallSet small;
  const std::string folder = small.folder.path();
  const auto open = [&] { ShardSet(folder, "train"); };
  EXPECT_EQ(error_of([&] { ShardSet(folder + "/none", "train"); }),
            folder + "/none: cannot read the folder: No such file or directory");
  EXPECT_EQ(error_of([&] { ShardSet(folder, "val"); }), folder + ": holds no shards of split 'val' (val-*-of-*.h5)");

  std::filesystem::rename(small.second, folder + "/kept");
  EXPECT_EQ(error_of(open), folder + ": shard train-00001-of-00002.h5 is missing");
  std::filesystem::copy(small.first, small.second);
  EXPECT_NE(error_of(open).find("sample id 0 comes twice"), std::string::npos);
  std::filesystem::remove(small.second);
  std::filesystem::rename(small.first, small.second);
  EXPECT_EQ(error_of(open), folder + ": shard train-00000-of-00002.h5 is missing");
  std::filesystem::rename(small.second, small.first);

  write_shard(folder, 1, 2, {{small.bytes[2], 1, 1, 1, 1}}, {"cat", "cow"});
  EXPECT_NE(error_of(open).find("class names differ"), std::string::npos);
  std::filesystem::rename(folder + "/kept", small.second);
  EXPECT_NO_THROW(open());
  write_shard(folder, 0, 1, {{small.bytes[2], 1, 1, 1, 1}});
  EXPECT_NE(error_of(open).find("two sets"), std::string::npos);

  const TemporaryFolder renamed;
  std::filesystem::copy(small.first, renamed / "val-00000-of-00001.h5");
  EXPECT_NE(error_of([&] { ShardSet(renamed.path(), "val"); }).find("holds split 'train'"), std::string::npos);
}

TEST(data, shard_find_takes_only_names_of_the_split) {
  const TemporaryFolder folder;
  for (const char* name : {"train-00000-of-00001.h5", "train-00001-of-00001.h5.tmp", "train-x-00000-of-00001.h5",
                           "train-0-of-1.h5", "xtrain-00000-of-00001.h5", "train-00000-of-00001.h", "notes"}) {
    write_bytes(folder / name, {});
  }
  EXPECT_EQ(find_shards(folder.path(), "train"), std::vector<std::string>{"train-00000-of-00001.h5"});
  EXPECT_EQ(find_shards(folder.path(), "train-x"), std::vector<std::string>{"train-x-00000-of-00001.h5"});
  EXPECT_THROW(check_split_name("a/b"), ConfigError);
  EXPECT_THROW(check_split_name(""), ConfigError);
  EXPECT_NO_THROW(check_split_name("val_2.b-C"));
}

TEST(data, shard_writer_refuses_what_it_cannot_store) {
  const TemporaryFolder folder;
  const Bytes good = encoded(1, 10), text = {'h', 'e', 'l', 'l', 'o'};
  {
    ShardWriter writer(folder.path(), "train", 0, 1, kClasses);
    const std::string sample = writer.path() + ": sample with id 7 ";
    const auto fails = [&](const ShardSample& bad) { return error_of([&] { writer.append(bad); }); };
    EXPECT_EQ(fails({text, 0, 7, 1, 1}), sample + "is neither JPEG nor PNG");
    EXPECT_EQ(fails({good, 2, 7, 1, 1}), sample + "has label 2, but there are 2 classes");
    EXPECT_EQ(fails({good, -1, 7, 1, 1}), sample + "has label -1, but there are 2 classes");
    EXPECT_EQ(fails({good, 0, 7, 65536, 1}), sample + "is 65536×1 pixels; a side has 1 to 65535");
    EXPECT_EQ(error_of([&] { writer.finish(); }), writer.path() + ": would be a shard without samples");
  }
  EXPECT_TRUE(entries_in(folder.path()).empty());
}

TEST(data, shard_with_label_outside_the_classes_is_refused) {
  const TemporaryFolder folder;
  const std::string path = folder / "train-00000-of-00001.h5";
  const Bytes image_bytes = encoded(1, 10);
  ShardIndex index;
  index.split = "train";
  index.class_names = kClasses;
  index.offset = {0, 10};
  index.label = {2};
  index.crc32c = {0};
  index.encoding = {0};
  index.size = {{4, 4}};
  index.id = {5};
  write_shard_of(path, index, image_bytes);
  EXPECT_EQ(error_of([&] { ShardSet(folder.path(), "train"); }),
            path + ": sample 0 (id 5) has label 2, but there are 2 classes");
}

TEST(data, shard_writing_to_a_full_disk_leaves_nothing) {
  const SmallSet small;
  const std::uintmax_t size = std::filesystem::file_size(small.second);
  for (const std::uintmax_t limit : {std::uintmax_t{0}, std::uintmax_t{2000}, std::uintmax_t{6700}, size - 1}) {
    const TemporaryFolder folder;
    {
      const FileSizeLimit full(limit);
      const std::string text = error_of([&] { write_shard(folder.path(), 1, 2, {{small.bytes[2], 1, 1, 65535, 1}}); });
      EXPECT_EQ(text, folder / "train-00001-of-00002.h5" + ": cannot write: File too large") << limit;
    }
    EXPECT_TRUE(entries_in(folder.path()).empty()) << limit;
  }
}

TEST(data, shard_leaves_no_hdf5_object_open) {
  const SmallSet small;
  read_all(small.folder.path());
  Bytes file = bytes_of_file(small.first);
  file[600] ^= 1;
  write_bytes(small.first, file);
  EXPECT_THROW(verify_shard(small.first), IoError);
  EXPECT_EQ(H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

}  // namespace
}  // namespace qm
