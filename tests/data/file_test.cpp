#include "data/file.h"

#include <gtest/gtest.h>

#include "tests/support/damaged_file.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;

TEST(data, atomic_file_appears_only_when_published) {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  write_bytes(path, {9});
  {
    AtomicFile abandoned(path);
    abandoned.write(0, Bytes{1, 2, 3});
    abandoned.finish();
  }
  EXPECT_EQ(bytes_of_file(path), Bytes{9});
  {
    AtomicFile file(path);
    file.write(4, Bytes{5});
    file.write(0, Bytes{1, 2});
    file.finish();
    EXPECT_EQ(bytes_of_file(path), Bytes{9});
    file.publish();
  }
  EXPECT_EQ(read_file(path), (Bytes{1, 2, 0, 0, 5}));
  EXPECT_EQ(entries_in(folder.path()), std::vector<std::string>{"file"});
}

TEST(data, atomic_file_names_file_and_cause) {
  const TemporaryFolder folder;
  const std::string lost = folder / "missing/file";
  EXPECT_EQ(error_of([&] { AtomicFile file(lost); }), lost + ": cannot create: No such file or directory");

  std::filesystem::create_directory(folder / "taken");
  const std::string taken = folder / "taken";
  EXPECT_EQ(error_of([&] {
              AtomicFile file(taken);
              file.finish();
              file.publish();
            }),
            taken + ": cannot rename the finished file: Is a directory");
  EXPECT_EQ(entries_in(folder.path()), std::vector<std::string>{"taken"});

  const std::string large = folder / "large";
  const FileSizeLimit limit(10);
  EXPECT_EQ(error_of([&] {
              AtomicFile file(large);
              file.write(0, Bytes(11));
            }),
            large + ": cannot write: File too large");
  EXPECT_EQ(entries_in(folder.path()), std::vector<std::string>{"taken"});
}

TEST(data, input_file_refuses_what_it_cannot_give) {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  EXPECT_EQ(error_of([&] { InputFile file(path); }), path + ": cannot open: No such file or directory");
  EXPECT_EQ(error_of([&] { InputFile file(folder.path().string()); }), folder.path().string() + ": not a regular file");
  write_bytes(path, {1, 2, 3});
  const InputFile file(path);
  Bytes bytes(2);
  file.read(1, bytes);
  EXPECT_EQ(bytes, (Bytes{2, 3}));
  EXPECT_EQ(error_of([&] { file.read(2, bytes); }), path + ": ends at byte 3, 1 bytes too early");
}

}  // namespace
}  // namespace qm
