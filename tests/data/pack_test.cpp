#include "data/pack.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <optional>
#include <set>

#include "data/image.h"
#include "data/shard.h"
#include "tests/support/damaged_file.h"
#include "tests/support/jpegs.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;
namespace fs = std::filesystem;

Image image_of(int content, std::int64_t height, std::int64_t width) {
  Image image{height, width, Bytes(static_cast<std::size_t>(height * width * 3))};
  for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<std::uint8_t>(i * content);
  return image;
}

/// Three classes of images beside things that are none: ids 0, 1 are bear's, 2, 3, 4 cat's, 5 dog's.
struct SmallTree {
  SmallTree() {
    for (const char* name : {"cat", "bear", "dog", ".git"}) fs::create_directories(input + "/" + name);
    add("bear/a.jpg", encode_jpeg(image_of(1, 8, 9), 90));
    add("bear/b.JPEG", encode_jpeg(image_of(2, 10, 11), 90));
    add("cat/a.png", encode_png(image_of(3, 12, 13)));
    add("cat/no_extension", encode_png(image_of(4, 14, 15)));
    add("cat/png_inside.jpg", encode_png(image_of(5, 16, 17)));
    add("dog/z.jpg", encode_jpeg(image_of(6, 18, 19), 90));
    add("boxes.csv", {'1'});
    add("dog/notes.txt", {});
    add("dog/.DS_Store", {0});
    add(".git/a.jpg", {1});
    fs::create_directories(input + "/dog/deeper");
  }
  void add(const std::string& name, const Bytes& bytes) const { write_bytes(input + "/" + name, bytes); }
  PackOptions options() const { return {.input = input, .split = "train", .output = output}; }

  TemporaryFolder folder;
  const std::string input = folder / "in", output = folder / "out";
};

// What an earlier run packed took this one no time.
TEST(data, pack_tells_the_time_left_by_the_images_of_this_run) {
  EXPECT_EQ(describe(PackProgress{.done = 300, .kept = 0, .total = 1000}, 6),
            "pack: 300 of 1000 images, 50/s, 0:00:14 left");
  EXPECT_EQ(describe(PackProgress{.done = 8300, .kept = 8000, .total = 908300}, 6),
            "pack: 8300 of 908300 images, 50/s, 5:00:00 left");
  EXPECT_EQ(describe(PackProgress{.done = 8000, .kept = 8000, .total = 908300}, 6),
            "pack: 8000 of 908300 images, kept from an earlier run");
}

TEST(data, pack_keeps_every_image_under_its_label_and_id) {
  const SmallTree tree;
  PackOptions options = tree.options();
  options.shards = 2;
  std::vector<std::int64_t> progress;
  options.progress = [&](const PackProgress& now) {
    progress.push_back(now.done);
    EXPECT_EQ(now.kept, 0);
    EXPECT_EQ(now.total, 6);
  };
  const PackReport report = pack(options);
  EXPECT_EQ(report.images, 6);
  EXPECT_EQ(report.class_names, (std::vector<std::string>{"bear", "cat", "dog"}));
  EXPECT_EQ(report.files, (std::vector<std::string>{tree.output + "/train-00000-of-00002.h5",
                                                    tree.output + "/train-00001-of-00002.h5"}));
  EXPECT_EQ(report.ignored, (std::vector<std::string>{tree.input + "/boxes.csv", tree.input + "/dog/deeper",
                                                      tree.input + "/dog/notes.txt"}));
  EXPECT_EQ(report.hidden, (std::vector<std::string>{tree.input + "/.git", tree.input + "/dog/.DS_Store"}));
  EXPECT_TRUE(report.skipped.empty());
  EXPECT_TRUE(report.empty_classes.empty());
  EXPECT_EQ(progress.back(), 6);

  const std::vector<std::pair<std::string, int>> by_id = {{"bear/a.jpg", 0},         {"bear/b.JPEG", 0},
                                                          {"cat/a.png", 1},          {"cat/no_extension", 1},
                                                          {"cat/png_inside.jpg", 1}, {"dog/z.jpg", 2}};
  const ShardSet set(tree.output, "train");
  ASSERT_EQ(set.size(), 6);
  EXPECT_EQ(set.class_names(), report.class_names);
  std::set<std::uint64_t> ids;
  std::uint64_t total = 0;
  for (std::int64_t i = 0; i < 6; ++i) {
    const std::uint64_t id = set.id(i);
    ids.insert(id);
    Bytes bytes;
    set.read(i, bytes);
    total += bytes.size();
    EXPECT_EQ(bytes, bytes_of_file(tree.input + "/" + by_id[id].first));
    EXPECT_EQ(set.label(i), by_id[id].second);
    EXPECT_EQ(set.height(i), static_cast<std::int64_t>(8 + 2 * id));
    EXPECT_EQ(set.width(i), static_cast<std::int64_t>(9 + 2 * id));
  }
  EXPECT_EQ(ids, (std::set<std::uint64_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(report.bytes, total);
  EXPECT_EQ(verify_shard(report.files[0]).samples, 3);
}

TEST(data, pack_same_tree_and_options_same_bytes) {
  const SmallTree tree;
  const auto bytes_with = [&](std::int64_t threads, std::uint64_t seed) {
    PackOptions options = tree.options();
    options.output = tree.folder / concat("out", threads, seed);
    options.threads = threads;
    options.seed = seed;
    return bytes_of_file(pack(options).files.at(0));
  };
  const Bytes bytes = bytes_with(1, 7);
  EXPECT_EQ(bytes_with(3, 7), bytes);
  EXPECT_NE(bytes_with(1, 8), bytes);
}

TEST(data, pack_mixes_the_classes_of_every_shard) {
  const TemporaryFolder folder;
  const Bytes jpeg = encode_jpeg(image_of(1, 4, 4), 90);
  for (int label = 0; label < 3; ++label) {
    fs::create_directories(folder / concat("in/", label));
    for (int i = 0; i < 40; ++i) write_bytes(folder / concat("in/", label, "/", i, ".jpg"), jpeg);
  }
  const PackReport report = pack({.input = folder / "in", .split = "val", .output = folder / "out", .shards = 4});
  ASSERT_EQ(report.files.size(), 4u);
  for (const std::string& file : report.files) {
    const ShardReport shard = verify_shard(file);
    EXPECT_EQ(shard.samples, 30);
    for (const std::int64_t samples : shard.samples_per_class) EXPECT_GE(samples, 3);
  }
}

TEST(data, pack_names_a_bad_image_or_skips_it) {
  for (const char* kind : {"truncated jpeg", "truncated png", "text named .jpg", "empty"}) {
    SCOPED_TRACE(kind);
    SmallTree tree;
    std::string bad = tree.input + "/cat/bad.jpg";
    if (kind == std::string("truncated jpeg")) {
      Bytes bytes = encode_jpeg(image_of(7, 64, 64), 90);
      bytes.resize(bytes.size() * 2 / 3);
      write_bytes(bad, bytes);
    } else if (kind == std::string("truncated png")) {
      bad = tree.input + "/cat/bad";
      Bytes bytes = encode_png(image_of(7, 64, 64));
      bytes.resize(bytes.size() * 2 / 3);
      write_bytes(bad, bytes);
    } else {
      write_bytes(bad, kind == std::string("empty") ? Bytes{} : Bytes(100, 'x'));
    }
    PackOptions options = tree.options();
    expect_named_error(bad, [&] { pack(options); });
    EXPECT_TRUE(entries_in(tree.output).empty());

    options.skip_bad = true;
    const PackReport report = pack(options);
    EXPECT_EQ(report.images, 6);
    ASSERT_EQ(report.skipped.size(), 1u);
    EXPECT_EQ(report.skipped[0].path, bad);
    EXPECT_EQ(report.skipped[0].cause.find(bad), std::string::npos) << report.skipped[0].cause;
    EXPECT_EQ(ShardSet(tree.output, "train").size(), 6);
  }
}

TEST(data, pack_leaves_out_a_shard_of_bad_images_alone) {
  const SmallTree tree;
  PackOptions options = tree.options();
  options.skip_bad = true;
  for (const char* name : {"bear/b.jpg", "cat/bad.jpg", "dog/a.jpg"}) tree.add(name, Bytes(10));
  options.shards = 9;  // one image each
  const PackReport report = pack(options);
  EXPECT_EQ(report.images, 6);
  EXPECT_EQ(report.skipped.size(), 3u);
  ASSERT_EQ(report.files.size(), 6u);
  EXPECT_EQ(report.files.back(), tree.output + "/train-00005-of-00006.h5");
  EXPECT_EQ(entries_in(tree.output).size(), 6u);
  const ShardSet set(tree.output, "train");
  ASSERT_EQ(set.size(), 6);
  std::set<std::uint64_t> ids;
  for (std::int64_t i = 0; i < 6; ++i) ids.insert(set.id(i));
  EXPECT_EQ(ids, (std::set<std::uint64_t>{0, 1, 3, 5, 6, 8}));
}

TEST(data, pack_ends_at_an_image_that_cannot_be_read_even_if_bad_ones_are_skipped) {
  const SmallTree tree;
  const std::string link = tree.input + "/cat/bad.jpg";
  fs::create_symlink(std::string(300, 'x'), link);  // longer than any name: nobody knows what is there
  PackOptions options = tree.options();
  options.skip_bad = true;
  expect_named_error(link, [&] { pack(options); });
  EXPECT_FALSE(fs::exists(tree.output + "/train-00000-of-00001.h5"));
}

TEST(data, pack_counts_no_image_as_bad_for_what_the_machine_lacks) {
  const SmallTree tree;
  const std::string image = tree.input + "/dog/progressive.jpg";
  tree.add("dog/progressive.jpg", jpeg_of(image_of(1, 200, 40), 2, 2, true));
  PackOptions options = tree.options();
  options.skip_bad = true;
  {
    const LittleJpegMemory little;
    const std::string error = error_of<Error>([&] { pack(options); });
    EXPECT_TRUE(error.starts_with(image + ": JPEG: out of memory: ")) << error;
  }
  const Bytes jpeg = encode_jpeg(image_of(1, 8, 9), 90);
  for (int i = 0; i < 100; ++i) tree.add(concat("cat/", i, ".jpg"), jpeg);
  options.threads = 1;
  {
    // From the first portion on. UndefinedBehaviorSanitizer says here that errors have an "invalid vptr": it looks at
    // memory through a pipe, for which it has no descriptor either.
    std::optional<DescriptorLimit> none_left;
    options.progress = [&](const PackProgress&) { none_left.emplace(); };
    const std::string error = error_of([&] { pack(options); });
    EXPECT_NE(error.find(": cannot open: Too many open files"), std::string::npos) << error;
  }
  options.progress = nullptr;
  EXPECT_EQ(pack(options).images, 107);
}

TEST(data, pack_reports_classes_without_images) {
  const SmallTree tree;
  fs::create_directory(tree.input + "/ant");
  const PackReport report = pack(tree.options());
  EXPECT_EQ(report.class_names, (std::vector<std::string>{"ant", "bear", "cat", "dog"}));
  EXPECT_EQ(report.empty_classes, std::vector<std::string>{"ant"});
}

TEST(data, pack_refuses_input_without_images) {
  const TemporaryFolder folder;
  PackOptions options{.input = folder / "in", .split = "train", .output = folder / "out"};
  EXPECT_EQ(error_of([&] { pack(options); }), options.input + ": cannot read the folder: No such file or directory");
  fs::create_directory(options.input);
  EXPECT_EQ(error_of([&] { pack(options); }),
            options.input + ": holds no class folders (expected one sub-folder a class)");
  fs::create_directory(options.input + "/cat");
  EXPECT_EQ(error_of([&] { pack(options); }), options.input + ": no JPEG or PNG images in its 1 class folders");
  EXPECT_FALSE(fs::exists(options.output));
  write_bytes(options.input + "/cat/a.jpg", Bytes(10));
  options.skip_bad = true;
  EXPECT_NE(error_of([&] { pack(options); }).find("images are bad"), std::string::npos);
  EXPECT_TRUE(entries_in(options.output).empty());
}

TEST(data, pack_refuses_options_that_make_no_sense) {
  const SmallTree tree;
  const auto refused = [&](auto change) {
    PackOptions options = tree.options();
    change(options);
    EXPECT_THROW(pack(options), ConfigError);
  };
  refused([](PackOptions& options) { options.split = "../train"; });
  refused([](PackOptions& options) { options.shards = -1; });
  refused([](PackOptions& options) { options.shards = 7; });
  refused([](PackOptions& options) { options.threads = -2; });
  EXPECT_FALSE(fs::exists(tree.output));
}

TEST(data, pack_replaces_shards_only_when_asked) {
  const SmallTree tree;
  PackOptions options = tree.options();
  options.shards = 3;
  pack(options);
  options.split = "val";
  pack(options);
  options.split = "train";
  options.shards = 2;
  const std::vector<std::string> before = entries_in(tree.output);
  EXPECT_NE(error_of([&] { pack(options); }).find("already holds 3 shards of split 'train'"), std::string::npos);
  EXPECT_EQ(entries_in(tree.output), before);

  options.overwrite = true;
  pack(options);
  EXPECT_EQ(ShardSet(tree.output, "train").size(), 6);
  EXPECT_EQ(ShardSet(tree.output, "val").size(), 6);
  EXPECT_EQ(entries_in(tree.output).size(), 5u);
}

TEST(data, pack_failing_midway_leaves_old_shards_and_no_new_ones) {
  const SmallTree tree;
  PackOptions options = tree.options();
  options.shards = 6;
  const std::vector<std::string> files = pack(options).files;
  const Bytes before = bytes_of_file(files[0]);
  const std::uintmax_t largest =
      fs::file_size(*std::ranges::max_element(files, {}, [](const std::string& file) { return fs::file_size(file); }));
  options.overwrite = true;
  options.seed = 1;
  {
    const FileSizeLimit full(largest - 1);  // so that some shards are complete before one fails
    EXPECT_NE(error_of([&] { pack(options); }).find("cannot write: File too large"), std::string::npos);
  }
  EXPECT_EQ(entries_in(tree.output).size(), 7u);  // beside the old shards what the run again goes on from
  EXPECT_TRUE(fs::exists(tree.output + "/train.partial"));
  EXPECT_EQ(bytes_of_file(files[0]), before);
  EXPECT_EQ(ShardSet(tree.output, "train").size(), 6);

  const PackReport report = pack(options);
  EXPECT_GT(report.kept_shards, 0);
  EXPECT_LT(report.kept_shards, 6);
  EXPECT_EQ(report.images, 6);
  EXPECT_EQ(entries_in(tree.output).size(), 6u);
  std::vector<Bytes> resumed;
  for (const std::string& file : report.files) resumed.push_back(bytes_of_file(file));
  const std::vector<std::string> again = pack(options).files;  // in one go
  for (std::size_t i = 0; i < again.size(); ++i) EXPECT_EQ(bytes_of_file(again[i]), resumed[i]) << i;
}

TEST(data, pack_needs_an_output_it_can_write_to) {
  const SmallTree tree;
  PackOptions options = tree.options();
  options.output = tree.input + "/../file";
  std::ofstream(options.output) << "no folder";
  EXPECT_THROW(pack(options), IoError);
  options.output += "/out";
  EXPECT_THROW(pack(options), IoError);
}

}  // namespace
}  // namespace qm
