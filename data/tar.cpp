#include "data/tar.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "kernels/base/error.h"

namespace qm {
namespace {

constexpr std::uint64_t kBlock = 512;
constexpr std::uint64_t kLongestName = 1 << 16;

using Header = std::array<std::uint8_t, kBlock>;

std::string_view text_field(const Header& header, std::size_t offset, std::size_t size) {
  const auto* text = reinterpret_cast<const char*>(header.data()) + offset;
  return {text, strnlen(text, size)};
}

/// Octal digits, or with the top bit set a big-endian number.
std::optional<std::uint64_t> number_field(const Header& header, std::size_t offset, std::size_t size) {
  std::uint64_t value = 0;
  if ((header[offset] & 0x80u) != 0) {
    for (std::size_t i = 1; i < size; ++i) {
      if (value >> 55 != 0) return std::nullopt;
      value = value << 8 | header[offset + i];
    }
    return value;
  }
  bool digits = false;
  for (std::size_t i = 0; i < size; ++i) {
    const std::uint8_t c = header[offset + i];
    if (c >= '0' && c <= '7') {
      value = value << 3 | static_cast<std::uint64_t>(c - '0');
      digits = true;
    } else if (c == 0 || (c == ' ' && digits)) {
      break;
    } else if (c != ' ') {
      return std::nullopt;
    }
  }
  return value;
}

bool is_blank(const Header& header) {
  return std::all_of(header.begin(), header.end(), [](std::uint8_t byte) { return byte == 0; });
}

/// The checksum is the sum of the header's bytes, with its own field as spaces.
bool is_header(const Header& header) {
  constexpr std::size_t kChecksum = 148, kChecksumSize = 8;
  const auto expected = number_field(header, kChecksum, kChecksumSize);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < header.size(); ++i) {
    sum += i >= kChecksum && i < kChecksum + kChecksumSize ? ' ' : header[i];
  }
  return expected && *expected == sum && !is_blank(header);
}

std::string name_of(const Header& header) {
  const bool is_ustar = text_field(header, 257, 5) == "ustar" && header[262] == 0;
  const std::string_view prefix = is_ustar ? text_field(header, 345, 155) : std::string_view();
  const std::string name(text_field(header, 0, 100));
  return prefix.empty() ? name : std::string(prefix) + "/" + name;
}

/// The same path for the same place.
std::string plain_path(std::string path) {
  while (path.starts_with("./")) path.erase(0, 2);
  if (path.find("//") == std::string::npos && path.find("/.") == std::string::npos) return path;
  return std::filesystem::path(path).lexically_normal().string();
}

/// What a pax header says of the entry that follows it: "LENGTH KEY=VALUE\n" lines.
struct PaxRecords {
  std::optional<std::string> path, link;
  std::optional<std::uint64_t> size;
};

void read_pax(std::string_view text, PaxRecords& records) {
  while (!text.empty()) {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    const auto digits = static_cast<std::size_t>(end - text.data());
    if (error != std::errc() || length <= digits + 1 || length > text.size()) return;
    std::string_view record = text.substr(digits + 1, length - digits - 2);
    text.remove_prefix(length);
    const std::size_t equals = record.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    if (key == "path") records.path = value;
    if (key == "linkpath") records.link = value;
    std::uint64_t size = 0;
    if (key == "size" && std::from_chars(value.data(), value.data() + value.size(), size).ec == std::errc()) {
      records.size = size;
    }
  }
}

bool is_file(char type) {
  return type == '0' || type == 0 || type == '7';
}

class Lister {
 public:
  Lister(const InputFile& file, std::uint64_t begin, std::uint64_t end) : file_(file), at_(begin), end_(end) {}

  TarListing list() {
    bool resynchronising = false;
    Header header;
    while (read_header(header)) {
      if (is_blank(header)) {
        ++blanks_;
        at_ += kBlock;
        continue;
      }
      const bool good = is_header(header);
      if (!resynchronising && (!good || blanks_ == 1)) {  // two blanks or more end an archive, one is no part of any
        listing_.problems.push_back(concat("damaged header at byte ", at_ - (good ? kBlock : 0)));
      }
      blanks_ = 0;
      resynchronising = !good;
      if (!good) {
        at_ += kBlock;
      } else if (!take(header)) {
        break;
      }
    }
    resolve_links();
    return std::move(listing_);
  }

 private:
  bool read_header(Header& header) {
    if (at_ == end_) return false;
    if (end_ - at_ < kBlock) {
      if (blanks_ < 2) listing_.problems.push_back(concat("cut short in a header at byte ", at_));
      return false;
    }
    file_.read(at_, header);
    return true;
  }

  /// Takes the entry at at_; false where the archive ends inside it.
  bool take(const Header& header) {
    const std::uint64_t size = next_.size.value_or(number_field(header, 124, 12).value_or(UINT64_MAX));
    const std::uint64_t data = at_ + kBlock;
    const char type = static_cast<char>(header[156]);
    std::string name = plain_path(next_.path.value_or(name_of(header)));
    if (size > end_ - data) {
      listing_.problems.push_back(
          concat("cut short: ", name, ", ", size, " bytes at byte ", data, ", reaches beyond the end"));
      if (is_file(type)) listing_.entries.push_back({std::move(name), data, end_ - data, false});
      return false;
    }
    if (type == 'L' || type == 'K' || type == 'x') {
      read_extension(type, data, size);
    } else {
      if (type == '1')
        links_.push_back({name, plain_path(next_.link.value_or(std::string(text_field(header, 157, 100))))});
      if (is_file(type)) listing_.entries.push_back({std::move(name), data, size});
      next_ = {};
    }
    at_ = std::min(data + (size + kBlock - 1) / kBlock * kBlock, end_);
    return true;
  }

  void read_extension(char type, std::uint64_t data, std::uint64_t size) {
    std::string text(std::min(size, kLongestName), '\0');
    file_.read(data, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
    if (type == 'x') return read_pax(text, next_);
    (type == 'L' ? next_.path : next_.link) = text.substr(0, text.find('\0'));
  }

  /// Makes hard links the files that they lead to.
  void resolve_links() {
    if (links_.empty()) return;
    std::map<std::string, TarEntry, std::less<>> by_name;
    for (const TarEntry& entry : listing_.entries) by_name[entry.name] = entry;
    for (auto& [name, target] : links_) {
      const auto found = by_name.find(target);
      if (found == by_name.end()) {
        listing_.problems.push_back(concat(name, ": a link to ", target, ", which is not there"));
        continue;
      }
      TarEntry entry = found->second;
      entry.name = name;
      listing_.entries.push_back(std::move(entry));
    }
  }

  const InputFile& file_;
  std::uint64_t at_, end_;
  std::uint64_t blanks_ = 0;                                // blank blocks before at_
  PaxRecords next_;                                         // of the entry that follows
  std::vector<std::pair<std::string, std::string>> links_;  // name, target
  TarListing listing_;
};

}  // namespace

bool is_tar(const InputFile& file) {
  Header header;
  if (file.size() < kBlock) return false;
  file.read(0, header);
  return is_header(header);
}

TarListing list_tar(const InputFile& file, std::uint64_t begin, std::uint64_t end) {
  Header header{};
  file.read(begin, std::span(header).first(std::min<std::uint64_t>(kBlock, end - begin)));
  const bool is_gzip = header[0] == 0x1f && header[1] == 0x8b;
  QM_CHECK(is_header(header), IoError, file.path(), ": no tar archive at byte ", begin,
           is_gzip ? ": it is compressed, gunzip it first" : "");
  return Lister(file, begin, end).list();
}

}  // namespace qm
