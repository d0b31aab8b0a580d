// Which images of a folder or archive are packed, under which names and classes; pack_source_problems_test.cpp has
// what cannot be.
#include "data/pack_source.h"

#include <gtest/gtest.h>

#include "data/shard.h"
#include "tests/data/pack_sources.h"

namespace qm {
namespace {

namespace fs = std::filesystem;

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

}  // namespace
}  // namespace qm
