#include "data/tar.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/base/error.h"
#include "tests/support/damaged_file.h"
#include "tests/support/tar.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

TarBytes contents_of(std::size_t size, std::uint8_t value) {
  return TarBytes(size, value);
}

TarListing listing_of(const TarBytes& tar) {
  const TemporaryFolder folder;
  write_bytes(folder / "a.tar", tar);
  const InputFile file(folder / "a.tar");
  return list_tar(file, 0, file.size());
}

std::vector<std::string> names_of(const TarListing& listing) {
  std::vector<std::string> names;
  for (const TarEntry& entry : listing.entries) names.push_back(entry.name);
  return names;
}

/// Folder, files of awkward sizes, a link, long names of both kinds.
TarBytes sample() {
  TarBytes tar;
  append_tar_entry(tar, "./d/", {}, '5');
  append_tar_entry(tar, "./d/empty", {});
  append_tar_entry(tar, "d/one", contents_of(1, 1));
  append_tar_entry(tar, "d/block", contents_of(512, 2));
  append_tar_entry(tar, "d/link", {}, '2');
  const std::string gnu = "d/" + std::string(300, 'g'), pax = "d/" + std::string(200, 'p');
  append_tar_entry(tar, "././@LongLink", TarBytes(gnu.begin(), gnu.end()), 'L');
  append_tar_entry(tar, "d/short", contents_of(513, 3));
  const std::string record = "212 path=" + pax + "\n";  // 212 characters
  append_tar_entry(tar, "./PaxHeaders/short", TarBytes(record.begin(), record.end()), 'x');
  append_tar_entry(tar, "d/short", contents_of(5, 4));
  append_tar_entry(tar, "d/last", contents_of(6, 5));
  end_tar(tar);
  return tar;
}

TEST(data, tar_lists_files_and_where_they_are) {
  const TarBytes tar = sample();
  const TarListing listing = listing_of(tar);
  EXPECT_TRUE(listing.problems.empty());
  ASSERT_EQ(names_of(listing), (std::vector<std::string>{"d/empty", "d/one", "d/block", "d/" + std::string(300, 'g'),
                                                         "d/" + std::string(200, 'p'), "d/last"}));
  const std::uint64_t sizes[] = {0, 1, 512, 513, 5, 6};
  for (std::size_t i = 0; i < listing.entries.size(); ++i) {
    EXPECT_EQ(listing.entries[i].size, sizes[i]);
    for (std::uint64_t k = 0; k < sizes[i]; ++k) EXPECT_EQ(tar[listing.entries[i].offset + k], i) << i;
  }
}

// Wherever an archive is cut, what came whole before stays.
TEST(data, tar_cut_short_keeps_what_came_before) {
  const TarBytes tar = sample();
  for (std::size_t size = 512; size < tar.size(); size += 128) {
    const TarListing listing = listing_of(TarBytes(tar.begin(), tar.begin() + static_cast<std::ptrdiff_t>(size)));
    for (const TarEntry& entry : listing.entries) {
      EXPECT_LE(entry.offset + entry.size, size);
      EXPECT_TRUE(entry.whole || &entry == &listing.entries.back());
    }
    EXPECT_LE(listing.problems.size(), 1u) << size;
  }
}

TEST(data, tar_goes_on_after_a_damaged_header) {
  TarBytes tar = sample();
  const TarListing whole = listing_of(tar);
  tar[whole.entries[2].offset - 500] ^= 1;  // in the name of d/block
  const TarListing listing = listing_of(tar);
  EXPECT_EQ(listing.entries.size(), whole.entries.size() - 1);
  EXPECT_EQ(listing.problems,
            std::vector<std::string>{concat("damaged header at byte ", whole.entries[2].offset - 512)});
}

TEST(data, tar_goes_on_after_a_damaged_first_header) {
  TarBytes tar;
  append_tar_entry(tar, "one", contents_of(700, 1));
  append_tar_entry(tar, "two", contents_of(5, 2));
  end_tar(tar);
  for (const bool blank : {false, true}) {
    TarBytes damaged = tar;
    damaged[0] ^= 1;
    if (blank) std::fill_n(damaged.begin(), 512, std::uint8_t{0});
    const TarListing listing = listing_of(damaged);
    EXPECT_EQ(names_of(listing), std::vector<std::string>{"two"});
    EXPECT_EQ(listing.problems.size(), 1u);
    EXPECT_TRUE(listing.damaged_header);
  }
}

TEST(data, tar_goes_on_with_an_archive_behind_the_first) {
  TarBytes both = sample();
  const TarBytes second = sample();
  both.insert(both.end(), second.begin(), second.end());
  const TarListing listing = listing_of(both);
  EXPECT_TRUE(listing.problems.empty());
  ASSERT_EQ(listing.entries.size(), 12u);
  EXPECT_EQ(listing.entries[11].offset, listing.entries[5].offset + sample().size());
  both.resize(both.size() + 100, 1);  // less than a header
  EXPECT_TRUE(listing_of(both).problems.empty());
  both.resize(2 * sample().size() + 1024, 1);
  EXPECT_EQ(listing_of(both).problems,
            std::vector<std::string>{concat("damaged header at byte ", 2 * sample().size())});
}

TEST(data, tar_a_header_of_zeros_is_damage) {
  TarBytes tar = sample();
  const TarEntry block = listing_of(tar).entries[2];
  std::fill_n(tar.begin() + static_cast<std::ptrdiff_t>(block.offset) - 512, 512, std::uint8_t{0});
  EXPECT_EQ(listing_of(tar).problems, std::vector<std::string>{concat("damaged header at byte ", block.offset)});
  const TarEntry empty = listing_of(tar).entries[0];
  std::fill_n(tar.begin() + static_cast<std::ptrdiff_t>(empty.offset) - 512, 512, std::uint8_t{0});
  const TarListing listing = listing_of(tar);
  EXPECT_EQ(listing.problems.front(), concat("damaged header at byte ", empty.offset - 512));
  EXPECT_EQ(names_of(listing).front(), "d/one");
}

TEST(data, tar_hard_links_are_names_of_their_files) {
  TarBytes tar;
  const std::string file = "d/" + std::string(150, 'f');
  append_tar_entry(tar, "././@LongLink", TarBytes(file.begin(), file.end()), 'L');
  append_tar_entry(tar, "d/short", contents_of(7, 1));
  append_tar_entry(tar, "././@LongLink", TarBytes(file.begin(), file.end()), 'K');
  append_tar_entry(tar, "d/again", {}, '1', "d/short");
  append_tar_entry(tar, "d/nothing", {}, '1', "d/nowhere");
  end_tar(tar);
  const TarListing listing = listing_of(tar);
  EXPECT_EQ(names_of(listing), (std::vector<std::string>{file, "d/again"}));
  EXPECT_EQ(listing.entries[1].offset, listing.entries[0].offset);
  EXPECT_EQ(listing.entries[1].size, 7u);
  EXPECT_TRUE(listing.problems.empty());
  ASSERT_EQ(listing.dangling.size(), 1u);
  EXPECT_EQ(listing.dangling[0].name, "d/nothing");
  EXPECT_EQ(listing.dangling[0].target, "d/nowhere");
}

TEST(data, tar_symbolic_links_are_names_of_their_files_too) {
  TarBytes tar;
  append_tar_entry(tar, "d/", {}, '5');
  append_tar_entry(tar, "e/over", {}, '2', "../d/link");  // over a link that comes later
  append_tar_entry(tar, "d/link", {}, '2', "file");
  append_tar_entry(tar, "top", {}, '2', "d/./file");
  append_tar_entry(tar, "d/file", contents_of(7, 1));
  append_tar_entry(tar, "d/loop", {}, '2', "loop");
  append_tar_entry(tar, "d/out", {}, '2', "/d/file");  // of the machine's own tree
  append_tar_entry(tar, "folder", {}, '2', "d");
  end_tar(tar);
  const TarListing listing = listing_of(tar);
  EXPECT_TRUE(listing.problems.empty());
  EXPECT_EQ(listing.folders, std::vector<std::string>{"d"});
  std::vector<std::string> names = names_of(listing);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"d/file", "d/link", "e/over", "top"}));
  for (const TarEntry& entry : listing.entries) EXPECT_EQ(entry.offset, listing.entries[0].offset);
  std::vector<std::string> dangling;
  for (const DanglingLink& link : listing.dangling) dangling.push_back(link.name + " to " + link.target);
  EXPECT_EQ(dangling, (std::vector<std::string>{"d/loop to d/loop", "d/out to /d/file", "folder to d"}));
}

TEST(data, tar_names_what_is_neither_file_nor_folder_nor_link) {
  TarBytes tar;
  append_tar_entry(tar, "pax_global_header", contents_of(52, 'c'), 'g');
  append_tar_entry(tar, "volume", {}, 'V');
  append_tar_entry(tar, "d/", contents_of(10, 'Y'), 'D');
  append_tar_entry(tar, "d/terminal", {}, '3');
  append_tar_entry(tar, "d/disk", {}, '4');
  append_tar_entry(tar, "./d/pipe.jpg", {}, '6');
  append_tar_entry(tar, "d/rest", contents_of(700, 1), 'M');  // of a file that another volume begins
  append_tar_entry(tar, "d/file", contents_of(7, 1));
  end_tar(tar);
  const TarListing listing = listing_of(tar);
  EXPECT_TRUE(listing.problems.empty());
  EXPECT_EQ(listing.folders, std::vector<std::string>{"d"});
  EXPECT_EQ(names_of(listing), std::vector<std::string>{"d/file"});
  EXPECT_EQ(listing.special, (std::vector<std::string>{"d/terminal", "d/disk", "d/pipe.jpg", "d/rest"}));
}

TEST(data, tar_gives_no_file_a_name_that_was_damaged) {
  const TarBytes whole = sample();
  const std::vector<TarEntry> entries = listing_of(whole).entries;
  const auto header = [&](std::size_t entry) { return static_cast<std::size_t>(entries[entry].offset) - 512; };
  // The header that says that a long name follows, and what it says: then the header behind holds the name's beginning.
  for (const std::size_t entry : {3u, 4u}) {
    const std::size_t of_name = header(entry) - 2 * 512;
    for (const std::size_t at : {of_name + 2, of_name + 156, of_name + 513}) {
      SCOPED_TRACE(concat("entry ", entry, ", byte ", at - of_name));
      if (entry == 3 && at == of_name + 513) continue;  // the name itself, which has no checksum
      TarBytes tar = whole;
      tar[at] ^= 0x40;
      const TarListing listing = listing_of(tar);
      EXPECT_EQ(listing.problems.size(), 1u);
      ASSERT_EQ(listing.entries.size(), 5u);
      for (const TarEntry& left : listing.entries) EXPECT_NE(left.offset, entries[entry].offset) << left.name;
    }
    TarBytes tar = whole;  // nor the next one the name of what was damaged
    tar[header(entry)] ^= 1;
    const std::vector<std::string> names = names_of(listing_of(tar));
    EXPECT_EQ(names.size(), 5u);
    EXPECT_EQ(std::count(names.begin(), names.end(), entries[entry].name), 0);
  }
}

TEST(data, tar_sparse_files_are_named_and_keep_their_names) {
  TarBytes tar;
  append_tar_entry(tar, "old", contents_of(600, 1), 'S');
  const std::string records = "22 GNU.sparse.major=1\n25 GNU.sparse.name=d/new\n";
  append_tar_entry(tar, "PaxHeaders/new", TarBytes(records.begin(), records.end()), 'x');
  append_tar_entry(tar, "GNUSparseFile.1/new", contents_of(600, 1));
  append_tar_entry(tar, "d/plain", contents_of(600, 1));
  end_tar(tar);
  const TarListing listing = listing_of(tar);
  ASSERT_EQ(names_of(listing), (std::vector<std::string>{"old", "d/new", "d/plain"}));
  EXPECT_EQ(listing.problems.size(), 2u);
  EXPECT_EQ(listing.problems.back(), "d/new: a sparse file, stored without its zeros: cannot be read in place");
  EXPECT_FALSE(listing.entries[0].whole);
  EXPECT_FALSE(listing.entries[1].whole);
  EXPECT_TRUE(listing.entries[2].whole);
}

TEST(data, tar_without_its_end_is_cut_short) {
  const TarBytes whole = sample();
  const std::size_t end = whole.size() - 1024;
  const auto cut_to = [&](std::size_t size) {
    return listing_of(TarBytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)));
  };
  EXPECT_EQ(cut_to(end).problems,
            std::vector<std::string>{
                concat("cut short at byte ", end, ": the empty blocks that end an archive are missing")});
  EXPECT_EQ(cut_to(end).entries.size(), 6u);
  EXPECT_TRUE(cut_to(end + 512).problems.empty());  // as tar itself takes it

  // A download that had asked for its room at once, and got no further.
  TarBytes sparse = whole;
  sparse.resize(end + 64 * 1024);
  EXPECT_TRUE(listing_of(sparse).problems.empty());
  sparse.resize(end + 64 * 1024 + 512);
  EXPECT_EQ(listing_of(sparse).problems,
            std::vector<std::string>{concat("cut short at byte ", end, ": 66048 zero bytes follow")});
}

TEST(data, tar_any_flipped_bit_is_survived) {
  TarBytes tar = sample();
  for (std::size_t bit = 512 * 8; bit < tar.size() * 8; bit += 97) {
    tar[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    const TarListing listing = listing_of(tar);
    for (const TarEntry& entry : listing.entries) EXPECT_LE(entry.offset + entry.size, tar.size());
    tar[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
  }
}

TEST(data, tar_tells_what_is_none) {
  const auto problems_of = [](const TarBytes& bytes) {
    const TarListing listing = listing_of(bytes);
    EXPECT_TRUE(listing.entries.empty());
    return listing.problems;
  };
  TarBytes gzip(1000);
  gzip[0] = 0x1f, gzip[1] = 0x8b;
  EXPECT_EQ(problems_of(contents_of(2000, 7)), std::vector<std::string>{"no tar archive"});
  EXPECT_EQ(problems_of({}), std::vector<std::string>{"no tar archive"});
  EXPECT_EQ(problems_of(gzip), std::vector<std::string>{"no tar archive: it is compressed, gunzip it first"});
  EXPECT_TRUE(problems_of(contents_of(10240, 0)).empty());  // an archive of nothing
  EXPECT_EQ(problems_of(contents_of(1 << 20, 0)).size(), 1u);
}

}  // namespace
}  // namespace qm
