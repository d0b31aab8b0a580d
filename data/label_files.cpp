#include "data/label_files.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <set>
#include <span>
#include <string_view>

#include "data/file.h"
#include "data/shard_index.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

using Bytes = std::span<const std::uint8_t>;

/// More than a line for each image of the largest sets: what is larger was not meant, and would not fit into memory.
constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;

/// The bytes of the character that `text` begins with; 0 where that is none that prints, nor a tab.
std::size_t printable_character(Bytes text) {
  const std::uint8_t first = text[0];
  if (first < 0x80) return (first >= 0x20 && first != 0x7f) || first == '\t' ? 1 : 0;
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
  std::uint32_t code = first & (0x7fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((text[i] & 0xc0u) != 0x80) return 0;
    code = code << 6 | (text[i] & 0x3fu);
  }
  static constexpr std::array<std::uint32_t, 5> kLeast = {0, 0, 0xa0, 0x800, 0x10000};  // below 0xa0 controls
  const bool is_surrogate = code >= 0xd800 && code <= 0xdfff;
  return code >= kLeast[size] && code <= 0x10ffff && !is_surrogate ? size : 0;
}

/// The lines of a text file, without what surrounds their words, nor the mark that some editors begin a file with.
std::vector<std::string> lines_of(const std::string& path) {
  constexpr std::array<std::uint8_t, 3> kByteOrderMark = {0xEF, 0xBB, 0xBF};
  const InputFile file(path);
  QM_CHECK(file.size() <= kMostBytes, IoError, path, ": expected text, at most ", kMostBytes, " bytes, got ",
           file.size());
  std::vector<std::uint8_t> bytes(file.size());
  file.read(0, bytes);
  Bytes text(bytes);
  if (text.size() >= 3 && std::ranges::equal(text.first(3), kByteOrderMark)) text = text.subspan(3);

  std::vector<std::string> lines;
  while (!text.empty()) {
    const auto end = std::ranges::find(text, '\n');
    Bytes line = text.first(static_cast<std::size_t>(end - text.begin()));
    text = text.subspan(std::min(line.size() + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line = line.first(line.size() - 1);
    lines.emplace_back(line.begin(), line.end());
    while (!line.empty()) {
      const std::size_t size = printable_character(line);
      char byte[8];
      std::snprintf(byte, sizeof byte, "0x%02x", line[0]);
      QM_CHECK(size > 0, IoError, path, ":", lines.size(), ": expected printable UTF-8 text, got byte ", byte);
      line = line.subspan(size);
    }
  }
  for (std::string& line : lines) {
    const std::size_t first = line.find_first_not_of(" \t"), last = line.find_last_not_of(" \t");
    line = first == std::string::npos ? "" : line.substr(first, last - first + 1);
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

}  // namespace

std::vector<std::string> read_class_names(const std::string& path) {
  if (path.ends_with(".h5")) return read_shard_index(InputFile(path)).class_names;
  std::vector<std::string> names = lines_of(path);
  QM_CHECK(!names.empty(), IoError, path, ": names no classes");
  std::set<std::string_view> known;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const bool is_one = !names[i].empty() && names[i].find('\t') == std::string::npos;
    QM_CHECK(is_one, IoError, path, ":", i + 1, ": expected the name of a class, got '", names[i], "'");
    QM_CHECK(known.insert(names[i]).second, IoError, path, ":", i + 1, ": names the class '", names[i],
             "' a second time");
  }
  return names;
}

std::map<std::string, std::string> read_labels(const std::string& path) {
  std::map<std::string, std::string> labels;
  const std::vector<std::string> lines = lines_of(path);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const std::size_t gap = lines[i].find_last_of(" \t");
    QM_CHECK(gap != std::string::npos, IoError, path, ":", i + 1, ": expected NAME LABEL, got '", lines[i], "'");
    std::string name = lines[i].substr(0, gap);
    name.erase(name.find_last_not_of(" \t") + 1);
    name.erase(0, name.rfind('/') + 1);
    QM_CHECK(!name.empty(), IoError, path, ":", i + 1, ": expected the name of a file, got '", lines[i], "'");
    const bool is_new = labels.emplace(name, lines[i].substr(gap + 1)).second;
    QM_CHECK(is_new, IoError, path, ":", i + 1, ": labels '", name,
             "' a second time; files are told by their names without folders");
  }
  QM_CHECK(!labels.empty(), IoError, path, ": labels no images");
  return labels;
}

}  // namespace qm
