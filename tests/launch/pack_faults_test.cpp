// A pack that was interrupted, wherever that was: the same command again ends with the bytes of an undisturbed one, and
// shards of another input are never mixed in.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "data/file.h"
#include "data/image.h"
#include "data/shard.h"
#include "data/shard_index.h"
#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"
#include "tests/support/images.h"
#include "tests/support/tar.h"

namespace qm {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::uint8_t>;
using Strings = std::vector<std::string>;

constexpr int kShards = 3;

/// Two classes of six images, as a folder and as an archive.
class Images {
 public:
  Images() { write('a'); }

  /// `last` is the last byte of every image, behind its end: all that the inputs of two calls differ by. Files keep
  /// their sizes and times of modification.
  void write(char last) {
    TarBytes tar;
    for (const char* name : {"cat", "dog"}) {
      fs::create_directories(folder() + "/" + name);
      for (std::uint32_t i = 0; i < 6; ++i) {
        Bytes bytes = encode_jpeg(slope_image(24, 32, i), 90);
        bytes.push_back(static_cast<std::uint8_t>(last));
        const std::string file = concat(name, "/", i, ".jpg");
        rewrite(folder() + "/" + file, bytes);
        append_tar_entry(tar, file, bytes);
      }
    }
    end_tar(tar);
    rewrite(archive(), tar);
  }

  std::string folder() const { return folder_ / "images"; }
  std::string archive() const { return folder_ / "images.tar"; }
  std::string output(const std::string& name) const { return folder_ / name; }

  ProgramResult pack(const std::string& input, const std::string& name, const Strings& more = {},
                     int shards = kShards) const {
    Strings arguments{"pack",       "--input",  input,          "--split",   "train", "--output",
                      output(name), "--shards", concat(shards), "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_quadmamba(arguments, {.environment = {}, .timeout_seconds = 60, .folder = {}});
  }

  /// Packs `input` undisturbed into another folder, and expects to find the same there and nothing besides.
  void expect_like_undisturbed(const std::string& input, const std::string& name, const Strings& more = {},
                               int shards = kShards) const {
    fs::remove_all(output("undisturbed"));
    const ProgramResult result = pack(input, "undisturbed", more, shards);
    ASSERT_TRUE(result.succeeded()) << result.describe();
    ASSERT_EQ(entries_in(output(name)), entries_in(output("undisturbed")));
    for (const std::string& shard : entries_in(output(name))) {
      EXPECT_EQ(bytes_of_file(output(name) + "/" + shard), bytes_of_file(output("undisturbed") + "/" + shard)) << shard;
    }
  }

 private:
  static void rewrite(const std::string& path, const Bytes& bytes) {
    std::error_code none;
    const fs::file_time_type before = fs::last_write_time(path, none);
    write_bytes(path, bytes);
    if (!none) fs::last_write_time(path, before);
  }

  TemporaryFolder folder_;
};

void expect_killed(const ProgramResult& result) {
  EXPECT_EQ(result.signal, SIGKILL) << result.describe();
}

/// Files written by a pack: the plan, the shards, the note that they get their names now; then those are renamed.
constexpr int kRenames = 1 + kShards + 1 + kShards;

TEST(faults, pack_killed_at_any_rename_goes_on) {
  const Images images;
  for (const char* point : {"file-rename", "folder-sync"}) {  // before a rename, and after it
    for (int n = 1; n <= kRenames; ++n) {
      SCOPED_TRACE(concat(point, ":", n));
      fs::remove_all(images.output("out"));
      expect_killed(images.pack(images.folder(), "out", {concat("--fault=kill@", point, ":", n)}));
      const ProgramResult again = images.pack(images.folder(), "out");
      ASSERT_TRUE(again.succeeded()) << again.describe();
      const int finished = std::min(n - (std::string(point) == "file-rename" ? 2 : 1), kShards);
      if (finished > 0) {
        EXPECT_NE(again.out.find(concat(finished, " of them kept")), std::string::npos) << again.describe();
      }
      images.expect_like_undisturbed(images.folder(), "out");
    }
  }
}

TEST(faults, pack_killed_at_any_rename_goes_on_with_replacing_older_shards) {
  const Images images;
  for (const char* point : {"file-rename", "folder-sync"}) {
    for (int n = 1; n <= kRenames; ++n) {
      SCOPED_TRACE(concat(point, ":", n));
      fs::remove_all(images.output("out"));
      ASSERT_TRUE(images.pack(images.folder(), "out", {"--seed=5"}).succeeded());
      expect_killed(images.pack(images.folder(), "out", {"--overwrite", concat("--fault=kill@", point, ":", n)}));
      const ProgramResult again = images.pack(images.folder(), "out", {"--overwrite"});
      ASSERT_TRUE(again.succeeded()) << again.describe();
      images.expect_like_undisturbed(images.folder(), "out");
    }
  }
}

TEST(faults, pack_mixes_no_kept_shard_with_a_changed_input) {
  for (const bool archive : {false, true}) {
    SCOPED_TRACE(archive ? "archive" : "folder");
    Images images;
    const std::string input = archive ? images.archive() : images.folder();
    // Two of three shards are finished; then two of three have their names.
    for (const char* fault : {"--fault=kill@file-rename:4", "--fault=kill@file-rename:8"}) {
      SCOPED_TRACE(fault);
      fs::remove_all(images.output("out"));
      images.write('a');
      expect_killed(images.pack(input, "out", {fault}));
      images.write('b');
      const ProgramResult again = images.pack(input, "out", {"--overwrite"});
      ASSERT_TRUE(again.succeeded()) << again.describe();
      EXPECT_EQ(again.out.find("kept"), std::string::npos) << again.describe();
      images.expect_like_undisturbed(input, "out");
    }
  }
}

TEST(faults, pack_of_another_input_does_not_replace_what_was_getting_its_names) {
  const Images images;
  for (const int named : {2, 3}) {  // all of them: only the note of it is left to remove
    SCOPED_TRACE(named);
    fs::remove_all(images.output("out"));
    expect_killed(
        images.pack(images.folder(), "out", {concat("--fault=kill@folder-sync:", kRenames - kShards + named)}));
    const Strings before = entries_in(images.output("out"));
    const Strings partial = entries_in(images.output("out/train.partial"));
    expect_refused(images.pack(images.folder(), "out", {"--seed=1"}),
                   {images.output("out"), concat("already holds ", named, " shards")});
    EXPECT_EQ(entries_in(images.output("out")), before);
    EXPECT_EQ(entries_in(images.output("out/train.partial")), partial);
    ASSERT_TRUE(images.pack(images.folder(), "out").succeeded());
    images.expect_like_undisturbed(images.folder(), "out");
  }
}

TEST(faults, pack_makes_again_a_shard_that_was_damaged_after_it_got_its_name) {
  const Images images;
  expect_killed(images.pack(images.folder(), "out", {"--fault=kill@file-rename:8"}));
  fs::resize_file(images.output("out/train-00000-of-00003.h5"), 700);
  fs::remove(images.output("out/train-00001-of-00003.h5"));
  ASSERT_TRUE(images.pack(images.folder(), "out").succeeded());
  images.expect_like_undisturbed(images.folder(), "out");
}

TEST(faults, pack_killed_at_any_rename_leaves_out_the_same_empty_shards) {
  const Images images;
  for (const char* bad : {"cat/1.jpg", "dog/5.jpg"}) write_bytes(images.folder() + "/" + bad, Bytes(100, 'x'));
  constexpr int kPlanned = 12, kWritten = 10;  // of an image each
  for (int n = 1; n <= 1 + kWritten + 1 + kWritten; ++n) {
    SCOPED_TRACE(n);
    fs::remove_all(images.output("out"));
    expect_killed(
        images.pack(images.folder(), "out", {"--skip-bad", concat("--fault=kill@folder-sync:", n)}, kPlanned));
    const ProgramResult again = images.pack(images.folder(), "out", {"--skip-bad"}, kPlanned);
    ASSERT_TRUE(again.succeeded()) << again.describe();
    EXPECT_NE(again.out.find("2 skipped"), std::string::npos) << again.describe();
    if (n > 1) {
      EXPECT_NE(again.out.find(concat(std::min(n - 1, kWritten), " of them kept")), std::string::npos)
          << again.describe();
    }
    images.expect_like_undisturbed(images.folder(), "out", {"--skip-bad"}, kPlanned);
  }
}

// The second run begins with taking two published shards back.
TEST(faults, pack_killed_while_it_takes_published_shards_back_goes_on) {
  const Images images;
  for (const char* point : {"file-rename", "folder-sync"}) {
    for (int n = 1; n <= 2; ++n) {
      SCOPED_TRACE(concat(point, ":", n));
      fs::remove_all(images.output("out"));
      expect_killed(images.pack(images.folder(), "out", {"--fault=kill@file-rename:8"}));
      expect_killed(images.pack(images.folder(), "out", {concat("--fault=kill@", point, ":", n)}));
      const ProgramResult again = images.pack(images.folder(), "out");
      ASSERT_TRUE(again.succeeded()) << again.describe();
      EXPECT_NE(again.out.find("3 of them kept"), std::string::npos) << again.describe();
      images.expect_like_undisturbed(images.folder(), "out");
    }
  }
}

constexpr const char* kAllWritten = "--fault=kill@file-rename:5";  // the plan, three shards

TEST(faults, pack_makes_again_a_finished_shard_that_has_rotted) {
  const Images images;
  for (const bool in_image : {true, false}) {
    SCOPED_TRACE(in_image ? "an image's byte" : "an index's byte");
    fs::remove_all(images.output("out"));
    expect_killed(images.pack(images.folder(), "out", {kAllWritten}));
    const std::string path = images.output("out/train.partial/train-00001-of-00003.h5");
    const ShardIndex index = read_shard_index(InputFile(path));
    Bytes bytes = bytes_of_file(path);
    bytes[in_image ? index.data.begin + index.offset[1] + 50 : bytes.size() - 1] ^= 1;
    write_bytes(path, bytes);
    const ProgramResult again = images.pack(images.folder(), "out");
    ASSERT_TRUE(again.succeeded()) << again.describe();
    for (const std::string& text :
         {std::string("2 of them kept"), path + (in_image ? ": sample 1 (id " : ": damaged")}) {
      EXPECT_NE(again.out.find(text), std::string::npos) << text << " is not in " << again.describe();
    }
    images.expect_like_undisturbed(images.folder(), "out");
  }
}

// It may come from a program that found more images bad, or from a moment in which one could not be read.
TEST(faults, pack_makes_again_a_finished_shard_without_an_image_that_is_good_by_now) {
  const Images images;
  const std::string image = images.folder() + "/cat/0.jpg", partial = images.output("out/train.partial");
  const Bytes good = bytes_of_file(image);
  write_bytes(image, Bytes(good.begin(), good.begin() + 100));
  expect_killed(images.pack(images.folder(), "out", {"--skip-bad", kAllWritten}));
  fs::create_directories(images.output("without"));
  for (const std::string& name : find_shards(partial, "train")) {
    fs::rename(partial + "/" + name, images.output("without/" + name));
  }
  write_bytes(image, good);
  expect_killed(images.pack(images.folder(), "out", {kAllWritten}));
  for (const std::string& name : find_shards(partial, "train")) {
    fs::rename(images.output("without/" + name), partial + "/" + name);
  }
  const ProgramResult again = images.pack(images.folder(), "out", {"--skip-bad"});
  ASSERT_TRUE(again.succeeded()) << again.describe();
  EXPECT_NE(again.out.find("12 images of 2 classes, 0 skipped"), std::string::npos) << again.describe();
  EXPECT_NE(again.out.find("2 of them kept"), std::string::npos) << again.describe();
  images.expect_like_undisturbed(images.folder(), "out");
}

TEST(faults, two_packs_do_not_share_a_folder) {
  const Images images;
  fs::create_directories(images.output("out/train.partial"));
  {
    const FileLock other(images.output("out/train.partial/lock"));
    expect_refused(images.pack(images.folder(), "out"), {"train.partial/lock: another process is at work"});
  }
  ASSERT_TRUE(images.pack(images.folder(), "out").succeeded());
  images.expect_like_undisturbed(images.folder(), "out");
}

}  // namespace
}  // namespace qm
