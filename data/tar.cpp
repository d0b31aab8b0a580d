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
/// Behind an archive's end lie as many empty blocks as fill its last record, which has 20 blocks unless it was made for
/// a tape. More are not padding but what was never written: the rest of a download that had asked for its room at once.
constexpr std::uint64_t kMostEmptyBlocks = 128;
/// Bytes without a header at the front of what still may be an archive: more than an image has.
constexpr std::uint64_t kFarthestFirst = std::uint64_t{64} << 20;

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
  bool is_sparse = false;
};

/// False where the text breaks off or is none of this.
bool read_pax(std::string_view text, PaxRecords& records) {
  while (!text.empty()) {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    const auto digits = static_cast<std::size_t>(end - text.data());
    if (error != std::errc() || length <= digits + 1 || length > text.size()) return false;
    std::string_view record = text.substr(digits + 1, length - digits - 2);
    text.remove_prefix(length);
    const std::size_t equals = record.find('=');
    if (equals == std::string_view::npos) return false;
    const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    if (key.starts_with("GNU.sparse.")) records.is_sparse = true;
    if (key == "path" || key == "GNU.sparse.name") records.path = value;
    if (key == "linkpath") records.link = value;
    std::uint64_t size = 0;
    if (key == "size" && std::from_chars(value.data(), value.data() + value.size(), size).ec == std::errc()) {
      records.size = size;
    }
  }
  return true;
}

bool is_file(char type) {
  return type == '0' || type == 0 || type == '7';
}

/// GNU's incremental archives list a folder's files in its entry.
bool is_folder(char type) {
  return type == '5' || type == 'D';
}

/// Whether the entry says something of the archive, and so is nothing that lies in it: a pax header for all entries, or
/// a volume's label.
bool is_about_the_archive(char type) {
  return type == 'g' || type == 'V';
}

/// Whether the entry is about the one that follows it: its long name, say. True also of a damaged header that says so
/// in only one of the two ways in which it would.
bool is_about_the_next(const Header& header) {
  const char type = static_cast<char>(header[156]);
  const std::string_view name = text_field(header, 0, 100);
  return type == 'L' || type == 'K' || type == 'x' || name.starts_with("././@LongLink") ||
         name.find("PaxHeader") != std::string_view::npos;
}

/// Whether the entry's name may be the beginning of a longer one, which an entry before it holds.
bool has_cut_name(const Header& header) {
  return text_field(header, 0, 100).size() == 100;
}

/// Where the symbolic link `name` leads to.
std::string path_of_target(const std::string& name, const std::string& target) {
  const std::size_t slash = name.rfind('/');
  const bool is_relative = !target.starts_with('/') && slash != std::string::npos;
  return plain_path(is_relative ? name.substr(0, slash + 1) + target : target);
}

class Lister {
 public:
  Lister(const InputFile& file, std::uint64_t begin, std::uint64_t end) : file_(file), at_(begin), end_(end) {}

  TarListing list() {
    if (!is_archive()) return std::move(listing_);
    Header header;
    while (read_header(header)) {
      if (is_blank(header)) {
        ++blanks_;
        at_ += kBlock;
        continue;
      }
      check_blanks();
      const bool good = is_header(header);
      if (!lost_ && (!good || blanks_ == 1)) {  // two blanks or more end an archive, one is no part of any
        const std::uint64_t place = at_ - (good ? kBlock : 0);
        problem("damaged header at byte ", place);
        if (!listing_.damaged_header) listing_.damaged_header = place;
        next_ = {.pax = {}, .is_lost = !good && is_about_the_next(header)};
      }
      if (good && lost_ && has_cut_name(header)) next_.is_lost = true;
      blanks_ = 0;
      lost_ = !good;
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
  template <class... Parts>
  void problem(const Parts&... parts) {
    listing_.problems.push_back(concat(parts...));
  }

  /// Whether there is a header not far from the front, where one that is damaged may lie before it, or an archive's end
  /// alone.
  bool is_archive() {
    const std::uint64_t far = std::min(end_ - at_, kFarthestFirst);
    bool is_empty = far >= 2 * kBlock, is_gzip = false;
    for (std::uint64_t place = 0; place < far && !is_gzip; place += kBlock) {
      Header header{};
      file_.read(at_ + place, std::span(header).first(std::min(kBlock, far - place)));
      if (is_header(header)) return true;
      is_empty = is_empty && is_blank(header);
      is_gzip = place == 0 && header[0] == 0x1f && header[1] == 0x8b;
    }
    if (is_empty) return true;
    problem("no tar archive", is_gzip ? ": it is compressed, gunzip it first" : "");
    return false;
  }

  /// False at the end.
  bool read_header(Header& header) {
    if (end_ - at_ >= kBlock) {
      file_.read(at_, header);
      return true;
    }
    check_blanks();
    if (at_ < end_ && blanks_ < 2) {
      problem("cut short in a header at byte ", at_);
    } else if (blanks_ == 0 && !lost_) {
      problem("cut short at byte ", at_, ": the empty blocks that end an archive are missing");
    }
    return false;
  }

  void check_blanks() {
    if (blanks_ > kMostEmptyBlocks) {
      problem("cut short at byte ", at_ - blanks_ * kBlock, ": ", blanks_ * kBlock, " zero bytes follow");
    }
  }

  /// Takes the entry at at_; false where the archive ends inside it.
  bool take(const Header& header) {
    const std::uint64_t size = next_.pax.size.value_or(number_field(header, 124, 12).value_or(UINT64_MAX));
    const std::uint64_t data = at_ + kBlock;
    const char type = static_cast<char>(header[156]);
    std::string name = plain_path(next_.pax.path.value_or(name_of(header)));
    const bool is_lost = next_.is_lost;
    if (size > end_ - data) {
      problem("cut short: ", name, ", ", size, " bytes at byte ", data, ", reaches beyond the end");
      if (is_file(type) && !is_lost) listing_.entries.push_back({std::move(name), data, end_ - data, false});
      return false;
    }
    if (type == 'L' || type == 'K' || type == 'x') {
      read_extension(type, data, size);
    } else {
      if (!is_lost) take_named(type, std::move(name), header, {data, size});
      next_ = {};
    }
    at_ = std::min(data + (size + kBlock - 1) / kBlock * kBlock, end_);
    return true;
  }

  struct Place {
    std::uint64_t data, size;
  };

  void take_named(char type, std::string name, const Header& header, Place place) {
    const auto target = [&] { return next_.pax.link.value_or(std::string(text_field(header, 157, 100))); };
    const bool is_sparse = type == 'S' || next_.pax.is_sparse;
    if (is_sparse) problem(name, ": a sparse file, stored without its zeros: cannot be read in place");
    if (is_file(type) || is_sparse) {
      listing_.entries.push_back({std::move(name), place.data, place.size, !is_sparse});
    } else if (type == '1') {
      links_.push_back({std::move(name), plain_path(target())});
    } else if (type == '2') {
      links_.push_back({name, path_of_target(name, target())});
    } else if (is_folder(type)) {
      while (name.ends_with('/')) name.pop_back();
      listing_.folders.push_back(std::move(name));
    } else if (!is_about_the_archive(type)) {
      listing_.special.push_back(std::move(name));
    }
  }

  void read_extension(char type, std::uint64_t data, std::uint64_t size) {
    std::string text(std::min(size, kLongestName), '\0');
    file_.read(data, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
    if (type != 'x') {
      (type == 'L' ? next_.pax.path : next_.pax.link) = text.substr(0, text.find('\0'));
    } else if (!read_pax(text, next_.pax)) {
      problem("damaged: what byte ", data, " says of the entry that follows");
      next_.is_lost = true;
    }
  }

  /// Makes links the files that they lead to, over other links too.
  void resolve_links() {
    if (links_.empty()) return;
    std::map<std::string, TarEntry> by_name;
    for (const TarEntry& entry : listing_.entries) by_name[entry.name] = entry;
    const auto resolve = [&](const DanglingLink& link) {
      const auto found = by_name.find(link.target);
      if (found == by_name.end()) return false;
      TarEntry entry = found->second;
      entry.name = link.name;
      listing_.entries.push_back(entry);
      by_name[link.name] = std::move(entry);
      return true;
    };
    while (std::erase_if(links_, resolve) > 0) {
    }
    listing_.dangling = std::move(links_);
  }

  /// What is known of the entry that follows.
  struct Next {
    PaxRecords pax;
    bool is_lost = false;  // its name was in what is damaged: that in its own header is a part of it
  };

  const InputFile& file_;
  std::uint64_t at_, end_;
  std::uint64_t blanks_ = 0;  // empty blocks before at_
  bool lost_ = false;         // the block before was to be a header and is none
  Next next_;
  std::vector<DanglingLink> links_;
  TarListing listing_;
};

}  // namespace

TarListing list_tar(const InputFile& file, std::uint64_t begin, std::uint64_t end) {
  return Lister(file, begin, end).list();
}

}  // namespace qm
