#include "data/pack_source.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

#include "data/shard.h"
#include "data/shard_index.h"
#include "data/tar.h"
#include "kernels/base/error.h"

namespace qm {

namespace fs = std::filesystem;

/// A file that may be an image: its class is the name of the folder it lies in.
struct PackSource::Found {
  std::string folder;  // "" where it lies flat
  std::string file;
  std::string name;  // for messages
  std::uint64_t offset = 0;
  FileStamp stamp{};  // of an archive's file, with the bytes of the image
};

namespace {

bool is_folder(const fs::directory_entry& entry) {
  std::error_code broken_link;
  return entry.is_directory(broken_link);
}

/// A folder's entries, sorted by name, without hidden ones.
std::vector<fs::directory_entry> entries_of(const std::string& folder) {
  std::vector<fs::directory_entry> entries;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (!entry.path().filename().string().starts_with('.')) entries.push_back(entry);
    }
  } catch (const fs::filesystem_error& error) {
    throw IoError(concat(folder, ": cannot read the folder: ", error.code().message()));
  }
  std::ranges::sort(entries, {}, [](const fs::directory_entry& entry) { return entry.path().string(); });
  return entries;
}

bool is_named_like_image(const std::string& name) {
  std::string extension = fs::path(name).extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

bool begins_like_image(const InputFile& file, std::uint64_t offset, std::uint64_t bytes) {
  std::array<std::uint8_t, 8> start{};
  file.read(offset, std::span(start).first(std::min<std::uint64_t>(start.size(), bytes)));
  return encoding_of(start).has_value();
}

bool begins_like_image(const fs::directory_entry& entry) {
  std::error_code broken_link;
  if (!entry.is_regular_file(broken_link)) return false;
  const InputFile file(entry.path().string());
  return begins_like_image(file, 0, file.size());
}

std::pair<std::string, std::string> split_path(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

/// Whether a file or one of the folders on the way to it is.
bool is_hidden(const std::string& path) {
  for (const fs::path& part : fs::path(path)) {
    const std::string name = part.string();
    if (name.starts_with('.') && name != "..") return true;
  }
  return false;
}

/// The lines of a text file, without what surrounds their words, nor the mark that some editors begin a file with.
std::vector<std::string> lines_of(const std::string& path) {
  constexpr std::array<std::uint8_t, 3> kByteOrderMark = {0xEF, 0xBB, 0xBF};
  const std::vector<std::uint8_t> bytes = read_file(path);
  std::span<const std::uint8_t> text(bytes);
  if (text.size() >= 3 && std::ranges::equal(text.first(3), kByteOrderMark)) text = text.subspan(3);
  std::vector<std::string> lines(1);
  for (const std::uint8_t byte : text) {
    if (byte == '\n') {
      lines.emplace_back();
    } else if (byte != '\r') {
      lines.back() += static_cast<char>(byte);
    }
  }
  for (std::string& line : lines) {
    const std::size_t first = line.find_first_not_of(" \t"), last = line.find_last_not_of(" \t");
    line = first == std::string::npos ? "" : line.substr(first, last - first + 1);
  }
  return lines;
}

std::vector<std::string> read_class_names(const std::string& path) {
  std::vector<std::string> names;
  if (path.ends_with(".h5")) {
    names = read_shard_index(InputFile(path)).class_names;
  } else {
    for (const std::string& line : lines_of(path)) {
      if (!line.empty()) names.push_back(line);
    }
  }
  QM_CHECK(!names.empty(), IoError, path, ": names no classes");
  const std::set<std::string> different(names.begin(), names.end());
  QM_CHECK(different.size() == names.size(), IoError, path, ": names a class twice");
  return names;
}

/// "NAME LABEL" lines as label by name.
std::map<std::string, std::string> read_labels(const std::string& path) {
  std::map<std::string, std::string> labels;
  const std::vector<std::string> lines = lines_of(path);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const std::size_t gap = lines[i].find_last_of(" \t");
    QM_CHECK(gap != std::string::npos, IoError, path, ":", i + 1, ": expected NAME LABEL, got '", lines[i], "'");
    std::string name = lines[i].substr(0, gap);
    name.erase(name.find_last_not_of(" \t") + 1);
    const bool is_new = labels.emplace(name, lines[i].substr(gap + 1)).second;
    QM_CHECK(is_new, IoError, path, ":", i + 1, ": labels '", name, "' a second time");
  }
  QM_CHECK(!labels.empty(), IoError, path, ": labels no images");
  return labels;
}

/// The classes found, sorted: by value where all are numbers.
std::vector<std::string> sorted_classes(const std::set<std::string>& found) {
  std::vector<std::string> names(found.begin(), found.end());
  const auto is_number = [](const std::string& name) {
    return !name.empty() && name.size() < 10 &&
           std::ranges::all_of(name, [](unsigned char c) { return std::isdigit(c); });
  };
  if (std::ranges::all_of(names, is_number))
    std::ranges::sort(names, {}, [](const auto& name) { return std::stol(name); });
  return names;
}

/// The label that a class has among `classes`: its place, or where it is none of them the number that it is.
class LabelOf {
 public:
  LabelOf(const std::vector<std::string>& classes, bool numbers) : count_(classes.size()), numbers_(numbers) {
    for (std::size_t i = 0; i < classes.size(); ++i) label_[classes[i]] = static_cast<std::int32_t>(i);
  }

  std::int32_t operator()(const std::string& name, const std::string& where) const {
    if (const auto found = label_.find(name); found != label_.end()) return found->second;
    std::size_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    const bool is_number = error == std::errc() && end == name.data() + name.size() && number < count_;
    QM_CHECK(numbers_ && is_number, IoError, where, ": class '", name, "' is none of the ", count_, " classes");
    return static_cast<std::int32_t>(number);
  }

 private:
  std::map<std::string, std::int32_t> label_;
  std::size_t count_;
  bool numbers_;
};

}  // namespace

PackSource::PackSource(const SourceOptions& options) : input_(options.input) {
  std::error_code missing;
  const bool is_archive = fs::is_regular_file(options.input, missing);
  QM_CHECK(is_archive || options.inside.empty(), ConfigError, "inside '", options.inside, "': ", options.input,
           " is no archive");
  std::vector<Found> found = is_archive ? find_in_archive(options) : find_in_folder(options);
  assign_labels(options, std::move(found));
}

std::vector<PackSource::Found> PackSource::find_in_folder(const SourceOptions& options) {
  std::vector<Found> found;
  std::size_t classes = 0;
  const auto take = [&](const fs::directory_entry& entry, const std::string& folder) {
    const std::string path = entry.path().string(), file = entry.path().filename().string();
    if (is_folder(entry) || !(is_named_like_image(file) || begins_like_image(entry))) {
      ignored_.push_back(path);
      return;
    }
    found.push_back({folder, file, path, 0, stamp_of(path).value_or(FileStamp{})});  // none: a broken link
  };
  for (const fs::directory_entry& entry : entries_of(options.input)) {
    if (!options.labels.empty()) {
      take(entry, "");
    } else if (is_folder(entry)) {
      ++classes;
      const std::string folder = entry.path().filename().string();
      class_names_.push_back(folder);  // also one without images
      for (const fs::directory_entry& file : entries_of(entry.path().string())) take(file, folder);
    } else {
      ignored_.push_back(entry.path().string());
    }
  }
  QM_CHECK(classes > 0 || !options.labels.empty(), IoError, options.input,
           ": holds no class folders (expected one sub-folder a class)");
  QM_CHECK(!found.empty(), IoError, options.input, ": no JPEG or PNG images in its ", classes, " class folders");
  return found;
}

void PackSource::list(std::uint64_t begin, std::uint64_t end, const std::string& folder, std::vector<Found>& found) {
  TarListing listing = list_tar(*archive_, begin, end);
  FileStamp stamp = stamp_of(input_).value_or(FileStamp{});
  const std::string place = folder.empty() ? input_ : input_ + "/" + folder;
  for (std::string& problem : listing.problems) problems_.push_back({place, std::move(problem)});
  for (TarEntry& entry : listing.entries) {
    const std::string path = folder.empty() ? entry.name : folder + "/" + entry.name;
    auto [parent, file] = split_path(path);
    if (file.empty() || is_hidden(path)) continue;
    if (!entry.whole && !file.ends_with(".tar")) continue;  // of an inner archive, images may have come whole
    stamp.bytes = entry.size;
    found.push_back({std::move(parent), std::move(file), input_ + "/" + path, entry.offset, stamp});
  }
}

/// An archive of archives: the inner ones are the classes, also those without images.
void PackSource::find_in_inner_archives(std::vector<Found>& found) {
  const std::vector<Found> outer = std::exchange(found, {});
  std::set<std::string> parents;
  for (const Found& inner : outer) {
    if (!inner.file.ends_with(".tar")) {
      ignored_.push_back(inner.name);
      continue;
    }
    parents.insert(inner.folder);
    const std::string name = inner.file.substr(0, inner.file.size() - 4);
    class_names_.push_back(name);
    try {
      std::vector<Found> images;
      list(inner.offset, inner.offset + inner.stamp.bytes, inner.folder.empty() ? name : inner.folder + "/" + name,
           images);
      for (Found& image : images) image.folder = name;  // whatever folders lie inside
      found.insert(found.end(), std::make_move_iterator(images.begin()), std::make_move_iterator(images.end()));
    } catch (const IoError& error) {
      problems_.push_back({inner.name, error.what()});
    }
  }
  check_side_by_side(parents);
}

void PackSource::check_side_by_side(const std::set<std::string>& parents) const {
  QM_CHECK(parents.size() <= 1, IoError, input_, ": holds classes under '", *parents.begin(), "' and '",
           *parents.rbegin(), "'; choose those inside one of them");
}

std::vector<PackSource::Found> PackSource::find_in_archive(const SourceOptions& options) {
  archive_ = std::make_unique<InputFile>(options.input);
  std::vector<Found> found;
  list(0, archive_->size(), "", found);
  if (!options.inside.empty()) {
    std::string prefix = options.inside;
    while (prefix.ends_with('/')) prefix.pop_back();
    std::erase_if(found,
                  [&](const Found& file) { return file.folder != prefix && !file.folder.starts_with(prefix + "/"); });
  }
  const bool nested = std::ranges::any_of(found, [](const Found& file) { return file.file.ends_with(".tar"); });
  if (nested) find_in_inner_archives(found);
  std::erase_if(found, [&](const Found& file) {
    const bool is_image = is_named_like_image(file.file) || begins_like_image(*archive_, file.offset, file.stamp.bytes);
    if (!is_image) ignored_.push_back(file.name);
    return !is_image;
  });
  if (options.labels.empty() && !nested) {
    std::set<std::string> parents;
    for (Found& file : found) {
      QM_CHECK(!file.folder.empty(), IoError, file.name, ": lies in no class folder; images that lie flat need labels");
      auto [parent, folder] = split_path(file.folder);
      parents.insert(parent);
      file.folder = folder;
    }
    check_side_by_side(parents);
  }
  QM_CHECK(!found.empty(), IoError, options.input, ": no JPEG or PNG images",
           options.inside.empty() ? "" : " under '" + options.inside + "'",
           problems_.empty() ? "" : "; " + problems_.front().cause);
  return found;
}

void PackSource::assign_labels(const SourceOptions& options, std::vector<Found> found) {
  if (!options.labels.empty()) {
    std::map<std::string, std::string> labels = read_labels(options.labels);
    std::set<std::string> unused;
    for (const auto& [name, label] : labels) unused.insert(name);
    for (Found& file : found) {
      const auto label = labels.find(file.file);
      if (label == labels.end()) {
        problems_.push_back({file.name, concat("has no label in ", options.labels)});
        file.file.clear();
        continue;
      }
      file.folder = label->second;
      unused.erase(file.file);
    }
    for (const std::string& name : unused)
      problems_.push_back({name, concat("labelled in ", options.labels, ", but not there")});
    std::erase_if(found, [](const Found& file) { return file.file.empty(); });
    QM_CHECK(!found.empty(), IoError, options.labels, ": labels none of the images in ", options.input);
    class_names_.clear();
  }
  if (!options.classes.empty()) {
    class_names_ = read_class_names(options.classes);
  } else {
    std::set<std::string> names(class_names_.begin(), class_names_.end());
    for (const Found& file : found) names.insert(file.folder);
    class_names_ = options.labels.empty() ? std::vector(names.begin(), names.end()) : sorted_classes(names);
  }
  const LabelOf label_of(class_names_, !options.labels.empty() && !options.classes.empty());
  // Sorted by class and name. Of a file that an archive holds twice, the last, as unpacking would leave.
  std::map<std::tuple<std::int32_t, std::string, std::string>, std::size_t> place;
  for (std::size_t i = 0; i < found.size(); ++i) {
    place[{label_of(found[i].folder, found[i].name), found[i].file, found[i].name}] = i;
  }
  images_.reserve(place.size());
  for (const auto& [key, i] : place) {
    const FileStamp& stamp = found[i].stamp;
    images_.push_back(
        {std::move(found[i].name), std::get<0>(key), found[i].offset, stamp.bytes, stamp.modified, stamp.changed});
  }
  std::ranges::sort(ignored_);
}

std::vector<std::uint8_t> PackSource::read(const SourceImage& image) const {
  if (!archive_) return read_file(image.name);
  std::vector<std::uint8_t> bytes(image.bytes);
  archive_->read(image.offset, bytes);
  return bytes;
}

}  // namespace qm
