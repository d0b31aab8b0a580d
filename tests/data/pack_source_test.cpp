#include "data/pack_source.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <iterator>

#include "data/exif.h"
#include "data/image.h"
#include "data/pack.h"
#include "data/resample.h"
#include "data/shard.h"
#include "tests/support/damaged_file.h"
#include "tests/support/images.h"
#include "tests/support/tar.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;
using Names = std::vector<std::string>;
namespace fs = std::filesystem;

Bytes jpeg(std::uint32_t content, std::int64_t height = 24, std::int64_t width = 32) {
  return encode_jpeg(slope_image(height, width, content), 90);
}

Bytes text(const std::string& text) {
  return Bytes(text.begin(), text.end());
}

/// Six images of three classes, as a tree and as archives of every kind.
struct Archives {
  Archives() {
    std::uint32_t content = 0;
    Bytes tree, nested, flat, labels;
    for (const char* name : {"ant", "bee", "cat"}) {
      Bytes inner;
      fs::create_directories(folder / concat("tree/", name));
      for (const char* file : {"a.JPEG", "b.JPEG"}) {
        const Bytes bytes = jpeg(content++);
        const std::string flat_name = concat("val_", content, ".JPEG");
        write_bytes(folder / concat("tree/", name, "/", file), bytes);
        append_tar_entry(tree, concat("set/train/", name, "/", file), bytes);
        append_tar_entry(inner, file, bytes);
        append_tar_entry(flat, flat_name, bytes);
        for (const char c : concat(flat_name, " ", name, "\n")) labels.push_back(static_cast<std::uint8_t>(c));
      }
      append_tar_entry(inner, "notes.txt", text("no image"));
      end_tar(inner);
      append_tar_entry(nested, concat(name, ".tar"), inner);
    }
    for (Bytes* tar : {&tree, &nested, &flat}) end_tar(*tar);
    write_bytes(folder / "tree.tar", tree);
    write_bytes(folder / "nested.tar", nested);
    write_bytes(folder / "flat.tar", flat);
    write_bytes(folder / "labels.txt", labels);
  }

  PackOptions options(const std::string& input) const {
    return {.input = folder / input, .split = "train", .output = folder / (input + "-shards")};
  }

  TemporaryFolder folder;
};

TEST(data, pack_source_archives_give_the_bytes_of_the_tree) {
  const Archives archives;
  const auto shard = [&](const PackOptions& options) { return bytes_of_file(pack(options).files.at(0)); };
  const Bytes expected = shard(archives.options("tree"));
  EXPECT_EQ(shard(archives.options("tree.tar")), expected);
  EXPECT_EQ(shard(archives.options("nested.tar")), expected);
  PackOptions flat = archives.options("flat.tar");
  flat.labels = archives.folder / "labels.txt";
  EXPECT_EQ(shard(flat), expected);
  flat.output = archives.folder / "by-number";
  flat.classes = archives.folder / "tree-shards/train-00000-of-00001.h5";
  Bytes numbers = text("val_1.JPEG 0\nval_2.JPEG\t0\r\n\nval_3.JPEG 1\nval_4.JPEG 1\nval_5.JPEG 2\nval_6.JPEG 2");
  write_bytes(flat.labels, numbers);
  EXPECT_EQ(shard(flat), expected);
  flat.output = archives.folder / "by-path";
  numbers = text("val/val_1.JPEG 0\nval/val_2.JPEG 0\na/val_3.JPEG 1\nb/val_4.JPEG 1\n/val_5.JPEG 2\nval_6.JPEG 2");
  write_bytes(flat.labels, numbers);
  EXPECT_EQ(shard(flat), expected);
}

/// All that is wrong with a source, sorted: "PATH: cause", without the input's path before it.
Names problems_of(const PackSource& source, const std::string& input) {
  Names problems;
  for (const BadImage& bad : source.problems()) problems.push_back(bad.path.substr(input.size()) + ": " + bad.cause);
  std::ranges::sort(problems);
  return problems;
}

/// Of every image its name without the input's, and its class.
std::vector<std::pair<std::string, std::string>> listed(const PackSource& source, const std::string& input) {
  std::vector<std::pair<std::string, std::string>> images;
  for (const SourceImage& image : source.images()) {
    images.emplace_back(image.name.substr(input.size() + 1),
                        source.class_names()[static_cast<std::size_t>(image.label)]);
  }
  return images;
}

PackSource source_of(const std::string& input) {
  return PackSource({.input = input, .inside = "", .labels = "", .classes = ""});
}

Bytes tar_of(const std::vector<std::pair<std::string, Bytes>>& files) {
  Bytes tar;
  for (const auto& [name, contents] : files) append_tar_entry(tar, name, contents);
  end_tar(tar);
  return tar;
}

constexpr const char* kUnread = "an archive where images are expected: what it holds is not read";

TEST(data, pack_source_an_archive_beside_images_hides_none_of_them) {
  const TemporaryFolder folder;
  const Bytes inner = tar_of({{"x.jpg", jpeg(1)}});
  const std::string tree = folder / "tree.tar";
  write_bytes(tree, tar_of({{"ant/a.jpg", jpeg(1)},
                            {"ant/extra.tar", inner},
                            {"bee/b.jpg", jpeg(2)},
                            {"bee/more.TAR.GZ", {}},
                            {"bee/c.tar", jpeg(3)}}));
  const PackSource source = source_of(tree);
  EXPECT_EQ(listed(source, tree), (std::vector<std::pair<std::string, std::string>>{
                                      {"ant/a.jpg", "ant"}, {"bee/b.jpg", "bee"}, {"bee/c.tar", "bee"}}));
  EXPECT_EQ(problems_of(source, tree),
            (Names{concat("/ant/extra.tar: ", kUnread), concat("/bee/more.TAR.GZ: ", kUnread)}));
  EXPECT_TRUE(source.ignored().empty());

  fs::create_directories(folder / "tree/ant/deeper");
  fs::create_directories(folder / "tree/ant/empty");
  write_bytes(folder / "tree/ant/a.jpg", jpeg(1));
  write_bytes(folder / "tree/ant/extra.tar", inner);
  write_bytes(folder / "tree/ant/deeper/b.jpg", jpeg(2));
  write_bytes(folder / "tree/flat.jpg", jpeg(3));
  write_bytes(folder / "tree/bee.zip", {});
  const PackSource unpacked = source_of(folder / "tree");
  EXPECT_EQ(unpacked.images().size(), 1u);
  EXPECT_EQ(problems_of(unpacked, folder / "tree"),
            (Names{"/ant/deeper: a folder where images are expected: what it holds is not read",
                   concat("/ant/extra.tar: ", kUnread), concat("/bee.zip: ", kUnread),
                   "/flat.jpg: lies in no class folder"}));
  EXPECT_EQ(unpacked.ignored(), Names{folder / "tree/ant/empty"});

  const std::string nested = folder / "nested.tar";
  write_bytes(nested, tar_of({{"ant.tar", inner},
                              {"bee.tar", tar_of({{"b.jpg", jpeg(2)}, {"deeper.tar", inner}})},
                              {"preview.jpg", jpeg(3)},
                              {"notes.txt", {}}}));
  const PackSource classes = source_of(nested);
  EXPECT_EQ(listed(classes, nested),
            (std::vector<std::pair<std::string, std::string>>{{"ant/x.jpg", "ant"}, {"bee/b.jpg", "bee"}}));
  EXPECT_EQ(problems_of(classes, nested),
            (Names{concat("/bee/deeper.tar: ", kUnread), "/preview.jpg: an image where archives are expected"}));
  EXPECT_EQ(classes.ignored(), Names{nested + "/notes.txt"});
}

// With the header of an inner archive its name is gone, and what it holds seems to lie beside the others.
TEST(data, pack_source_a_damaged_header_among_archives_is_never_skipped) {
  const Archives archives;
  const std::string path = archives.folder / "nested.tar";
  const Bytes whole = bytes_of_file(path);
  const std::uint64_t first_of_bee = source_of(path).images()[2].offset;
  const std::size_t header = static_cast<std::size_t>(first_of_bee) - 1024;  // behind it, that of the first image
  for (const bool blank : {false, true}) {
    SCOPED_TRACE(blank ? "blank" : "flipped");
    Bytes damaged = whole;
    damaged[header + 1] ^= 1;
    if (blank) std::fill_n(damaged.begin() + static_cast<std::ptrdiff_t>(header), 512, std::uint8_t{0});
    write_bytes(path, damaged);
    PackOptions options = archives.options("nested.tar");
    for (const bool skip_bad : {false, true}) {
      options.skip_bad = skip_bad;
      EXPECT_EQ(error_of([&] { pack(options); }),
                concat(path, ": damaged header at byte ", header, ", among archives: a whole one may be lost"));
    }
    EXPECT_FALSE(fs::exists(options.output));
  }
}

TEST(data, pack_source_a_class_without_images_is_one_however_it_comes) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "tree/bee");
  fs::create_directories(folder / "tree/ant");
  write_bytes(folder / "tree/ant/a.jpg", jpeg(1));
  Bytes tree;
  for (const char* name : {"set/", "set/ant/", "set/bee/", "other/", "other/cat/"})
    append_tar_entry(tree, name, {}, '5');
  append_tar_entry(tree, "set/ant/a.jpg", jpeg(1));
  end_tar(tree);
  write_bytes(folder / "tree.tar", tree);
  write_bytes(folder / "nested.tar", tar_of({{"ant.tar", tar_of({{"a.jpg", jpeg(1)}})}, {"bee.tar", Bytes(10240)}}));
  for (const char* input : {"tree", "tree.tar", "nested.tar"}) {
    SCOPED_TRACE(input);
    const PackReport report = pack({.input = folder / input, .split = input, .output = folder / "out"});
    EXPECT_EQ(report.class_names, (Names{"ant", "bee"}));
    EXPECT_EQ(report.empty_classes, Names{"bee"});
    EXPECT_EQ(report.images, 1);
  }
  PackOptions one{.input = folder / "tree.tar", .split = "one", .output = folder / "out"};
  one.inside = "set/ant";
  EXPECT_EQ(pack(one).class_names, Names{"ant"});
}

TEST(data, pack_source_a_compressed_class_is_named_and_keeps_its_place) {
  const TemporaryFolder folder;
  const Bytes inner = tar_of({{"a.jpg", jpeg(1)}});
  Bytes gzip(1000);
  gzip[0] = 0x1f, gzip[1] = 0x8b;
  const std::string path = folder / "nested.tar";
  write_bytes(path, tar_of({{"n1.tar", inner}, {"n2.tar.gz", gzip}, {"n3.tar", gzip}, {"n4.tar", inner}}));
  const PackSource source = source_of(path);
  EXPECT_EQ(problems_of(source, path), (Names{"/n2.tar.gz: a compressed archive: expected one that is not",
                                              "/n3.tar: no tar archive: it is compressed, gunzip it first"}));
  EXPECT_EQ(listed(source, path),
            (std::vector<std::pair<std::string, std::string>>{{"n1/a.jpg", "n1"}, {"n4/a.jpg", "n4"}}));
  EXPECT_EQ(source.class_names(), (Names{"n1", "n2", "n3", "n4"}));
}

TEST(data, pack_source_follows_links) {
  const TemporaryFolder folder;
  Bytes tar;
  append_tar_entry(tar, "pool/", {}, '5');
  append_tar_entry(tar, "ant/a.jpg", jpeg(1));
  append_tar_entry(tar, "bee/b.jpg", {}, '2', "../ant/a.jpg");
  append_tar_entry(tar, "bee/c.jpg", {}, '2', "/elsewhere/c.jpg");
  append_tar_entry(tar, "cat", {}, '2', "ant");
  append_tar_entry(tar, "readme", {}, '2', "../readme");
  end_tar(tar);
  const std::string path = folder / "links.tar";
  write_bytes(path, tar);
  const PackSource source = source_of(path);
  EXPECT_EQ(listed(source, path),
            (std::vector<std::pair<std::string, std::string>>{{"ant/a.jpg", "ant"}, {"bee/b.jpg", "bee"}}));
  EXPECT_EQ(source.read(source.images()[1]), jpeg(1));
  EXPECT_EQ(problems_of(source, path), (Names{"/bee/c.jpg: a link to /elsewhere/c.jpg, which is no file in the archive",
                                              "/cat: a link to ant, which is no file in the archive"}));
  EXPECT_EQ(source.ignored(), Names{path + "/readme"});

  fs::create_directories(folder / "elsewhere/bee");
  fs::create_directories(folder / "tree");
  write_bytes(folder / "elsewhere/bee/b.jpg", jpeg(1));
  fs::create_directory_symlink(folder / "elsewhere/bee", folder / "tree/bee");
  EXPECT_EQ(source_of(folder / "tree").images().size(), 1u);
}

/// Sees whether a file is opened.
class OpenWatch {
 public:
  void add(const std::string& path) { EXPECT_GE(inotify_add_watch(descriptor_, path.c_str(), IN_OPEN), 0) << path; }
  bool saw_any() const {
    char event[sizeof(inotify_event) + NAME_MAX + 1];
    return ::read(descriptor_, event, sizeof event) > 0;
  }
  OpenWatch() = default;
  ~OpenWatch() { ::close(descriptor_); }
  OpenWatch(const OpenWatch&) = delete;
  OpenWatch& operator=(const OpenWatch&) = delete;

 private:
  const int descriptor_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
};

TEST(data, pack_source_of_a_folder_names_links_to_nothing_and_opens_no_pipe) {
  const TemporaryFolder folder;
  const std::string tree = folder / "tree";
  fs::create_directories(tree + "/ant");
  write_bytes(tree + "/ant/a.jpg", jpeg(1));
  fs::create_symlink("nowhere", tree + "/ant/b.jpg");
  fs::create_symlink("c.jpg", tree + "/ant/c.jpg");
  fs::create_symlink(folder / "unmounted/bee", tree + "/bee");
  OpenWatch watch;
  for (const char* pipe : {"/ant/d.jpg", "/ant/e"}) {
    ASSERT_EQ(mkfifo((tree + pipe).c_str(), 0666), 0);
    watch.add(tree + pipe);
  }
  const std::string no_file = ": not a regular file";
  const Names expected = {"/ant/b.jpg: a link to nothing", "/ant/c.jpg: a link to nothing", "/ant/d.jpg" + no_file,
                          "/ant/e" + no_file, "/bee: a link to nothing"};
  EXPECT_EQ(problems_of(source_of(tree), tree), expected);
  PackOptions options{.input = tree, .split = "train", .output = folder / "out"};
  EXPECT_EQ(error_of([&] { pack(options); }),
            tree + "/ant/b.jpg: a link to nothing; --skip-bad leaves out what is bad");
  options.skip_bad = true;
  const PackReport report = pack(options);
  EXPECT_EQ(report.images, 1);
  EXPECT_EQ(report.skipped.size(), expected.size());

  for (const char* link : {"/b.jpg", "/c.jpg"}) fs::remove(tree + "/ant" + link);
  write_bytes(folder / "labels.txt", text("a.jpg ant\n"));
  const PackSource flat({.input = tree + "/ant", .inside = "", .labels = folder / "labels.txt", .classes = ""});
  EXPECT_EQ(problems_of(flat, tree), (Names{"/ant/d.jpg" + no_file, "/ant/e" + no_file}));
  EXPECT_FALSE(watch.saw_any());
  const int opened = ::open((tree + "/ant/e").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  EXPECT_TRUE(watch.saw_any());
  ::close(opened);
}

TEST(data, pack_source_of_an_archive_names_what_is_no_regular_file) {
  const TemporaryFolder folder;
  Bytes inner, outer, tree;
  append_tar_entry(inner, "a.jpg", jpeg(1));
  append_tar_entry(inner, "b", {}, '6');
  end_tar(inner);
  append_tar_entry(outer, "ant.tar", inner);
  append_tar_entry(outer, "c.jpg", {}, '6');
  end_tar(outer);
  append_tar_entry(tree, "set/ant/a.jpg", jpeg(1));
  append_tar_entry(tree, "set/ant/b", {}, '6');
  append_tar_entry(tree, "set/c.jpg", {}, '3');
  append_tar_entry(tree, "set/.d.jpg", {}, '4');
  append_tar_entry(tree, "set/.e.jpg", {}, '1', "set/ant/nothing");
  append_tar_entry(tree, "other/f.jpg", {}, '4');
  end_tar(tree);
  write_bytes(folder / "nested.tar", outer);
  write_bytes(folder / "tree.tar", tree);
  for (const auto& [archive, inside] : {std::pair("nested.tar", ""), {"tree.tar", "set"}}) {
    SCOPED_TRACE(archive);
    PackOptions options{.input = folder / archive, .split = archive, .output = folder / "out"};
    options.inside = inside;
    const std::string place = concat(options.input, *inside ? "/" : "", inside);
    const std::string error = error_of([&] { pack(options); });
    EXPECT_TRUE(error.starts_with(place)) << error;
    EXPECT_TRUE(error.ends_with(": not a regular file; --skip-bad leaves out what is bad")) << error;
    options.skip_bad = true;
    const PackReport report = pack(options);
    EXPECT_EQ(report.images, 1);
    Names skipped;
    for (const BadImage& bad : report.skipped) skipped.push_back(bad.path + ": " + bad.cause);
    EXPECT_EQ(skipped, (Names{place + "/ant/b: not a regular file", place + "/c.jpg: not a regular file"}));
    EXPECT_EQ(report.hidden, *inside ? (Names{place + "/.d.jpg", place + "/.e.jpg"}) : Names{});
  }
}

TEST(data, pack_source_labels_are_for_images_that_lie_flat) {
  const Archives archives;
  PackOptions options = archives.options("tree");
  options.labels = archives.folder / "labels.txt";
  EXPECT_EQ(error_of([&] { pack(options); }),
            concat(options.input,
                   ": no JPEG or PNG images lie in it itself, as those that need labels do; those in class "
                   "folders need none; ",
                   options.input, "/ant: a folder where images are expected: what it holds is not read"));
  options = archives.options("tree.tar");  // each name in three folders
  options.labels = archives.folder / "labels.txt";
  write_bytes(options.labels, text("a.JPEG x\nb.JPEG y\n"));
  const std::string error = error_of([&] { pack(options); });
  EXPECT_NE(error.find("bee/a.JPEG: has the name and so the label of " + options.input + "/set/train/ant/a.JPEG"),
            std::string::npos)
      << error;
}

TEST(data, pack_source_reports_what_is_no_image) {
  const Archives archives;
  const PackSource source({.input = archives.folder / "nested.tar", .inside = "", .labels = "", .classes = ""});
  EXPECT_EQ(source.images().size(), 6u);
  EXPECT_EQ(source.ignored().size(), 3u);
  EXPECT_EQ(source.ignored()[0], archives.folder / "nested.tar/ant/notes.txt");
  EXPECT_EQ(source.class_names(), (Names{"ant", "bee", "cat"}));
}

TEST(data, pack_source_asks_which_class_folders_are_meant) {
  const TemporaryFolder folder;
  Bytes tar;
  append_tar_entry(tar, "train/ant/a.jpg", jpeg(1));
  append_tar_entry(tar, "val/ant/a.jpg", jpeg(2));
  end_tar(tar);
  write_bytes(folder / "both.tar", tar);
  PackOptions options{.input = folder / "both.tar", .split = "val", .output = folder / "out"};
  EXPECT_EQ(error_of([&] { pack(options); }),
            options.input + ": holds classes under 'train' and 'val'; --inside chooses one of them");
  options.inside = "val/";
  EXPECT_EQ(pack(options).images, 1);
  options.inside = "test";
  options.output = folder / "none";
  EXPECT_EQ(error_of([&] { pack(options); }), options.input + ": no JPEG or PNG images under 'test'");
}

TEST(data, pack_source_stray_images_beside_and_inside_class_folders_are_problems) {
  for (const std::string place : {"", "set/train/"}) {
    SCOPED_TRACE(place);
    const TemporaryFolder folder;
    const std::string archive = folder / "a.tar", tree = folder / "tree";
    Bytes tar;
    for (const char* file : {"ant/a.jpg", "ant/deeper/b.jpg", "ant/deeper/still/c.jpg", "bee/d.jpg", "bee/e.jpg",
                             "cat/deeper/f.jpg", "flat.jpg"}) {
      append_tar_entry(tar, place + file, jpeg(1));
      fs::create_directories(fs::path(tree + "/" + file).parent_path());
      write_bytes(tree + "/" + file, jpeg(1));
    }
    end_tar(tar);
    write_bytes(archive, tar);
    const Names expected = {"ant/deeper: a folder where images are expected: what it holds is not read",
                            "cat/deeper: a folder where images are expected: what it holds is not read",
                            "flat.jpg: lies in no class folder"};
    for (const auto& [input, prefix] : {std::pair(tree, std::string("/")), std::pair(archive, "/" + place)}) {
      PackOptions options{.input = input, .split = "train", .output = folder / "out"};
      const std::string error = error_of([&] { pack(options); });
      EXPECT_TRUE(error.starts_with(input + prefix)) << error;
      EXPECT_TRUE(error.ends_with("; --skip-bad leaves out what is bad")) << error;
      EXPECT_FALSE(fs::exists(options.output));
      options.skip_bad = true;
      options.overwrite = true;
      const PackReport report = pack(options);
      Names skipped;
      for (const BadImage& bad : report.skipped) {
        skipped.push_back(bad.path.substr((input + prefix).size()) + ": " + bad.cause);
      }
      EXPECT_EQ(skipped, expected);
      EXPECT_EQ(report.images, 3);
      EXPECT_EQ(report.class_names, (Names{"ant", "bee", "cat"}));
      EXPECT_EQ(report.empty_classes, Names{"cat"});
      fs::remove_all(options.output);
    }
  }
}

TEST(data, pack_source_inside_says_where_the_class_folders_lie) {
  const TemporaryFolder folder;
  const std::string archive = folder / "a.tar";
  write_bytes(archive,
              tar_of({{"train/ant/a.jpg", jpeg(1)}, {"train/bee/1/b.jpg", jpeg(2)}, {"train/bee/2/c.jpg", jpeg(3)}}));
  const auto classes = [&](const char* inside) {
    return PackSource({.input = archive, .inside = inside, .labels = "", .classes = ""}).class_names();
  };
  EXPECT_EQ(classes("train"), (Names{"ant", "bee"}));
  EXPECT_EQ(classes("train/bee"), (Names{"1", "2"}));
}

TEST(data, pack_source_loses_no_image_to_another_of_its_name) {
  const TemporaryFolder folder;
  Bytes inner, outer, twice;
  append_tar_entry(inner, "sub1/a.jpg", jpeg(1));
  append_tar_entry(inner, "sub2/a.jpg", jpeg(2));
  end_tar(inner);
  append_tar_entry(outer, "ant.tar", inner);
  end_tar(outer);
  const std::string nested = folder / "nested.tar";
  write_bytes(nested, outer);
  EXPECT_EQ(listed(source_of(nested), nested),
            (std::vector<std::pair<std::string, std::string>>{{"ant/sub1/a.jpg", "ant"}, {"ant/sub2/a.jpg", "ant"}}));

  // The same file a second time is another version of it.
  for (int version = 1; version <= 2; ++version) append_tar_entry(twice, "ant/a.jpg", jpeg(version));
  end_tar(twice);
  write_bytes(folder / "twice.tar", twice);
  const PackSource source({.input = folder / "twice.tar", .inside = "", .labels = "", .classes = ""});
  ASSERT_EQ(source.images().size(), 1u);
  EXPECT_EQ(source.read(source.images()[0]), jpeg(2));

  Bytes both;
  append_tar_entry(both, "ant.tar", inner);
  append_tar_entry(both, "other/ant.tar", inner);
  end_tar(both);
  write_bytes(folder / "both.tar", both);
  EXPECT_EQ(error_of([&] { PackSource({.input = folder / "both.tar", .inside = "", .labels = "", .classes = ""}); }),
            (folder / "both.tar") + ": holds classes under '' and 'other'; --inside chooses one of them");
}

TEST(data, pack_source_keeps_the_class_of_an_inner_archive_that_is_damaged) {
  const TemporaryFolder folder;
  Bytes inner, outer;
  append_tar_entry(inner, "a.jpg", jpeg(1));
  end_tar(inner);
  append_tar_entry(outer, "ant.tar", {});
  append_tar_entry(outer, "bee.tar", inner);
  end_tar(outer);
  write_bytes(folder / "nested.tar", outer);
  PackOptions options{.input = folder / "nested.tar", .split = "train", .output = folder / "out"};
  expect_named_error(folder / "nested.tar/ant.tar", [&] { pack(options); });
  options.skip_bad = true;
  const PackReport report = pack(options);
  EXPECT_EQ(report.class_names, (Names{"ant", "bee"}));
  EXPECT_EQ(report.empty_classes, Names{"ant"});
  EXPECT_EQ(report.images, 1);
}

TEST(data, pack_source_names_the_damage_where_nothing_is_left) {
  const TemporaryFolder folder;
  Bytes tar;
  append_tar_entry(tar, "ant/a.jpg", jpeg(1));
  tar.resize(300);
  write_bytes(folder / "short.tar", tar);
  EXPECT_EQ(error_of([&] { PackSource({.input = folder / "short.tar", .inside = "", .labels = "", .classes = ""}); }),
            (folder / "short.tar") + ": no JPEG or PNG images; cut short in a header at byte 0");
}

TEST(data, pack_source_without_images_says_what_is_there_instead) {
  const TemporaryFolder folder;
  const auto tree_of = [&](const std::string& name, const Names& files) {
    Bytes tar;
    for (const std::string& file : files) {
      const fs::path path = folder / concat(name, "/", file);
      fs::create_directories(path.parent_path());
      write_bytes(path.string(), jpeg(1));
      append_tar_entry(tar, file, jpeg(1));
    }
    end_tar(tar);
    write_bytes(folder / (name + ".tar"), tar);
    return folder / name;
  };
  const auto refusal = [](const std::string& input) {
    return error_of([&] { source_of(input); }).substr(input.size());
  };
  const std::string splits = tree_of("splits", {"train/ant/a.jpg", "val/ant/b.jpg"});
  EXPECT_EQ(refusal(splits), concat(": no JPEG or PNG images in its 2 class folders; folders lie in ", splits,
                                    "/train: if the class folders are in there, or in a folder beside it, choose that "
                                    "as input"));
  const std::string hidden = tree_of("hidden", {".bee/a.jpg", "ant/.a.jpg"});
  EXPECT_EQ(refusal(hidden), concat(": no JPEG or PNG images in its 1 class folders; hidden and so passed over: 2, "
                                    "such as ",
                                    hidden, "/.bee"));
  EXPECT_EQ(refusal(hidden + ".tar"),
            concat(": no JPEG or PNG images; hidden and so passed over: 2, such as ", hidden, ".tar/.bee"));
  EXPECT_EQ(refusal(tree_of("flat", {".a.jpg", "b.jpg"})),
            concat(": holds no class folders (expected one sub-folder a class); images that lie flat need labels; "
                   "hidden and so passed over: 1, such as ",
                   folder / "flat/.a.jpg"));
  fs::create_directories(folder / "unmounted/ant");
  fs::create_symlink("nowhere", folder / "unmounted/ant/a.jpg");
  EXPECT_EQ(refusal(folder / "unmounted"), concat(": no JPEG or PNG images in its 1 class folders; ",
                                                  folder / "unmounted/ant/a.jpg", ": a link to nothing"));
}

TEST(data, pack_source_passes_over_what_is_hidden) {
  const TemporaryFolder folder;
  Bytes tar;
  for (const char* name : {".git/a.jpg", ".git/b.jpg", "ant/.a.jpg", "./ant/a.jpg", "ant//b.jpg", "ant/./c.jpg"}) {
    append_tar_entry(tar, name, jpeg(1));
  }
  end_tar(tar);
  const std::string archive = folder / "a.tar";
  write_bytes(archive, tar);
  const PackSource source = source_of(archive);
  EXPECT_EQ(listed(source, archive), (std::vector<std::pair<std::string, std::string>>{
                                         {"ant/a.jpg", "ant"}, {"ant/b.jpg", "ant"}, {"ant/c.jpg", "ant"}}));
  EXPECT_EQ(source.hidden(), (Names{archive + "/.git", archive + "/ant/.a.jpg"}));
}

TEST(data, pack_source_labels_must_fit_the_images) {
  const Archives archives;
  PackOptions options = archives.options("flat.tar");
  EXPECT_NE(error_of([&] { pack(options); }).find("lies in no class folder"), std::string::npos);
  options.labels = archives.folder / "labels.txt";
  const auto with = [&](const std::string& lines) {
    write_bytes(options.labels, text(lines));
    return error_of([&] { pack(options); });
  };
  EXPECT_EQ(with("val_1.JPEG\n"), options.labels + ":1: expected NAME LABEL, got 'val_1.JPEG'");
  EXPECT_EQ(with("a 1\na 2\n"),
            options.labels + ":2: labels 'a' a second time; files are told by their names without folders");
  EXPECT_NE(with("val_1.JPEG ant\n").find("val_2.JPEG: has no label"), std::string::npos);
  const std::string all = "val_1.JPEG 0\nval_2.JPEG 0\nval_3.JPEG 10\nval_4.JPEG 10\nval_5.JPEG 9\nval_6.JPEG 9\n";
  EXPECT_NE(with(all + "val_7.JPEG 9\n").find("val_7.JPEG: labelled in"), std::string::npos);
  options.skip_bad = true;
  EXPECT_EQ(with("other.JPEG ant\n"), concat(options.labels, ": labels none of the images in ", options.input,
                                             ": 'other.JPEG' say, but not ", options.input, "/val_1.JPEG"));
  options.skip_bad = false;
  write_bytes(options.labels, text("\xEF\xBB\xBF" + all));
  EXPECT_EQ(pack(options).images, 6);
  EXPECT_EQ(ShardSet(options.output, "train").class_names(), (Names{"0", "9", "10"}));
  options.classes = archives.folder / "classes.txt";
  options.overwrite = true;
  write_bytes(options.classes, text("ant\nbee\n"));
  EXPECT_NE(with(all).find("class '10' is none of the 2 classes"), std::string::npos);
}

TEST(data, pack_source_damage_is_named_or_skipped_and_nothing_else_lost) {
  const Archives archives;
  Bytes tar = bytes_of_file(archives.folder / "nested.tar");
  // The last image of the last class is cut, with all that follows.
  const PackSource source({.input = archives.folder / "nested.tar", .inside = "", .labels = "", .classes = ""});
  tar.resize(source.images().back().offset + 100);
  write_bytes(archives.folder / "nested.tar", tar);
  PackOptions options = archives.options("nested.tar");
  const std::string error = error_of([&] { pack(options); });
  EXPECT_NE(error.find("cut short: cat.tar"), std::string::npos) << error;
  options.skip_bad = true;
  const PackReport report = pack(options);
  EXPECT_EQ(report.images, 5);
  EXPECT_EQ(report.skipped.size(), 2u);  // the inner archive and the image in it

  Bytes damaged = bytes_of_file(archives.folder / "tree.tar");
  const PackSource tree({.input = archives.folder / "tree.tar", .inside = "", .labels = "", .classes = ""});
  damaged[tree.images()[1].offset - 500] ^= 1;
  damaged[tree.images()[3].offset] ^= 1;
  damaged.resize(tree.images()[5].offset + 100);
  write_bytes(archives.folder / "tree.tar", damaged);
  options = archives.options("tree.tar");
  options.skip_bad = true;
  const PackReport rest = pack(options);
  EXPECT_EQ(rest.images, 3);
  EXPECT_EQ(rest.skipped.size(), 3u);
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

}  // namespace
}  // namespace qm
