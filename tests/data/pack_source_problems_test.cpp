// What a source names as bad, damaged or missing, and what it still packs with --skip-bad.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>

#include "tests/data/pack_sources.h"

namespace qm {
namespace {

namespace fs = std::filesystem;

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

}  // namespace
}  // namespace qm
