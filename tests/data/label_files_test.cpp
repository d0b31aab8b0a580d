#include "data/label_files.h"

#include <gtest/gtest.h>

#include "tests/support/damaged_file.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

using Names = std::vector<std::string>;
using Labels = std::map<std::string, std::string>;

class TextFile {
 public:
  const std::string& operator()(const std::string& text) const {
    write_bytes(path_, {text.begin(), text.end()});
    return path_;
  }
  const std::string& path() const { return path_; }

 private:
  TemporaryFolder folder_;
  const std::string path_ = folder_ / "names.txt";
};

TEST(data, label_files_classes_are_lines_of_text) {
  const TextFile file;
  EXPECT_EQ(read_class_names(file("bee\r\n \tant \ncat dog\n\n \n")), (Names{"bee", "ant", "cat dog"}));
  EXPECT_EQ(read_class_names(file("\xEF\xBB\xBF"
                                  "caf\xC3\xA9\n\xE9\xB3\xA5\n\xF0\x9F\x90\x9D")),
            (Names{"caf\xC3\xA9", "\xE9\xB3\xA5", "\xF0\x9F\x90\x9D"}));
}

TEST(data, label_files_classes_that_are_none_are_refused) {
  const TextFile file;
  const auto refusal = [&](const std::string& text) {
    const std::string error = error_of([&] { read_class_names(file(text)); });
    EXPECT_TRUE(error.starts_with(file.path())) << error;
    return error.substr(std::min(error.size(), file.path().size()));
  };
  EXPECT_EQ(refusal(""), ": names no classes");
  EXPECT_EQ(refusal("\n \n"), ": names no classes");
  EXPECT_EQ(refusal("ant\n\nbee\n"), ":2: expected the name of a class, got ''");
  EXPECT_EQ(refusal("ant\n1\tbee\n"), ":2: expected the name of a class, got '1\tbee'");
  EXPECT_EQ(refusal("ant\nbee\nant \n"), ":3: names the class 'ant' a second time");
  const auto text_expected = [](int line, const char* byte) {
    return concat(":", line, ": expected printable UTF-8 text, got byte ", byte);
  };
  EXPECT_EQ(refusal(std::string("ant\nb\0e\n", 8)), text_expected(2, "0x00"));
  EXPECT_EQ(refusal("ant\rbee\r"), text_expected(1, "0x0d"));
  EXPECT_EQ(refusal("\x89PNG\r\n"), text_expected(1, "0x89"));
  EXPECT_EQ(refusal("\x7f"
                    "ELF"),
            text_expected(1, "0x7f"));
  EXPECT_EQ(refusal("ant\ncaf\xE9\n"), text_expected(2, "0xe9"));    // Latin-1
  EXPECT_EQ(refusal("\xC0\xAF"), text_expected(1, "0xc0"));          // '/' in too many bytes
  EXPECT_EQ(refusal("\xE0\x80\xAF"), text_expected(1, "0xe0"));      // the same
  EXPECT_EQ(refusal("\xC2\x85"), text_expected(1, "0xc2"));          // a control
  EXPECT_EQ(refusal("\xED\xA0\x80"), text_expected(1, "0xed"));      // half of a pair
  EXPECT_EQ(refusal("\xF4\x90\x80\x80"), text_expected(1, "0xf4"));  // beyond the last character
}

TEST(data, label_files_labels_are_by_file_name) {
  const TextFile file;
  EXPECT_EQ(read_labels(file("val/a.jpg ant\n\nb c.jpg\t2\r\n/data/val/d.jpg  x")),
            (Labels{{"a.jpg", "ant"}, {"b c.jpg", "2"}, {"d.jpg", "x"}}));
  const auto refusal = [&](const std::string& text) {
    return error_of([&] { read_labels(file(text)); }).substr(file.path().size());
  };
  EXPECT_EQ(refusal("a/x.jpg 1\nb/x.jpg 2\n"),
            ":2: labels 'x.jpg' a second time; files are told by their names without folders");
  EXPECT_EQ(refusal("a/ 1\n"), ":1: expected the name of a file, got 'a/ 1'");
  EXPECT_EQ(refusal("490\n"), ":1: expected NAME LABEL, got '490'");
  EXPECT_EQ(refusal("\n"), ": labels no images");
  EXPECT_EQ(refusal("a 1\n\x1f\x8b\n"), ":2: expected printable UTF-8 text, got byte 0x1f");
}

}  // namespace
}  // namespace qm
