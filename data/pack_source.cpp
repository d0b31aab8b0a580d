#include "data/pack_source.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

#include "data/label_files.h"
#include "data/shard.h"
#include "data/tar.h"
#include "kernels/base/error.h"

namespace qm {

namespace fs = std::filesystem;

/// A file that may be an image, whose class is the name of the folder it lies in; or an archive.
struct PackSource::Found {
  std::string folder;  // "" where it lies flat
  std::string file;
  std::string name;  // for messages
  std::uint64_t offset = 0;
  FileStamp stamp{};  // of an archive's file, with the bytes of the image
};

/// What an archive holds.
struct PackSource::Contents {
  std::vector<Found> images, archives;
  std::set<std::string> folders;  // paths
  std::optional<std::uint64_t> damaged_header;
};

namespace {

constexpr const char* kUnreadArchive = "an archive where images are expected: what it holds is not read";
constexpr const char* kUnreadFolder = "a folder where images are expected: what it holds is not read";
constexpr const char* kNoClassFolder = "lies in no class folder";
constexpr const char* kLinkToNothing = "a link to nothing";
constexpr const char* kNoFile = "not a regular file";

enum class EntryKind { kFile, kFolder, kLinkToNothing, kNeither };

/// Of an entry that is no link, what the folder's listing says: to ask for each of a million files may take minutes.
EntryKind kind_of(const fs::directory_entry& entry) {
  std::error_code cause;
  const bool exists = entry.exists(cause);
  const bool is_absent = cause == std::errc::no_such_file_or_directory || cause == std::errc::not_a_directory ||
                         cause == std::errc::too_many_symbolic_link_levels;
  if (is_absent) return EntryKind::kLinkToNothing;
  QM_CHECK(exists, IoError, entry.path().string(), ": cannot be read: ", cause.message());
  if (entry.is_directory(cause)) return EntryKind::kFolder;
  return entry.is_regular_file(cause) ? EntryKind::kFile : EntryKind::kNeither;
}

std::string in_lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

bool is_named_like_image(const std::string& name) {
  const std::string extension = in_lower_case(fs::path(name).extension().string());
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

constexpr std::string_view kTar = ".tar";

/// What the name of an archive, compressed ones included, ends with; "" of other files.
std::string_view archive_suffix(const std::string& name) {
  static constexpr std::array<std::string_view, 11> kSuffixes = {
      kTar, ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".zip", ".7z"};
  const std::string lower = in_lower_case(name);
  const auto found = std::ranges::find_if(kSuffixes, [&](std::string_view suffix) { return lower.ends_with(suffix); });
  return found == kSuffixes.end() ? "" : *found;
}

bool begins_like_image(const InputFile& file, std::uint64_t offset, std::uint64_t bytes) {
  std::array<std::uint8_t, 8> start{};
  file.read(offset, std::span(start).first(std::min<std::uint64_t>(start.size(), bytes)));
  return encoding_of(start).has_value();
}

bool begins_like_image(const std::string& path) {
  const InputFile file(path);
  return begins_like_image(file, 0, file.size());
}

std::pair<std::string, std::string> split_path(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

/// Adds a folder and those on the way to it.
void add_folders(std::string path, std::set<std::string>& folders) {
  while (!path.empty() && folders.insert(path).second) path = split_path(path).first;
}

/// Whether a path is `folder`, or lies anywhere under it.
bool lies_in(const std::string& path, const std::string& folder) {
  return folder.empty() || path == folder || path.starts_with(folder + "/");
}

/// The file or the first of the folders on the way to it that is hidden; "" where none is.
std::string hidden_part(const std::string& path) {
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view name = std::string_view(path).substr(begin, end - begin);
    if (name.starts_with('.') && name != "..") return path.substr(0, end);
    begin = end + 1;
  }
  return "";
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

PackSource::PackSource(const SourceOptions& options) : input_(options.input), inside_(options.inside) {
  while (inside_.ends_with('/')) inside_.pop_back();
  std::error_code missing;
  const bool is_archive = fs::is_regular_file(input_, missing), is_flat = !options.labels.empty();
  QM_CHECK(is_archive || inside_.empty(), ConfigError, "inside '", inside_, "': ", input_, " is no archive");
  assign_labels(options, is_archive ? find_in_archive(options)
                         : is_flat  ? find_in_flat_folder()
                                    : find_in_class_folders());
}

// ---- folders --------------------------------------------------------------------------------------------------------

/// A folder's entries, sorted by name, without hidden ones.
std::vector<fs::directory_entry> PackSource::entries_of(const std::string& folder) {
  std::vector<fs::directory_entry> entries;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (entry.path().filename().string().starts_with('.')) {
        hidden_.push_back(entry.path().string());
      } else {
        entries.push_back(entry);
      }
    }
  } catch (const fs::filesystem_error& error) {
    throw IoError(concat(folder, ": cannot read the folder: ", error.code().message()));
  }
  std::ranges::sort(entries, {}, [](const fs::directory_entry& entry) { return entry.path().string(); });
  return entries;
}

/// Sorts an entry of the input that lies where images are expected.
void PackSource::take(const fs::directory_entry& entry, const std::string& folder, std::vector<Found>& found) {
  const std::string path = entry.path().string(), file = entry.path().filename().string();
  const EntryKind kind = kind_of(entry);
  if (kind == EntryKind::kFolder) {
    if (entries_of(path).empty()) {
      ignored_.push_back(path);
    } else {
      problems_.push_back({path, kUnreadFolder});
    }
  } else if (kind != EntryKind::kFile) {  // never opened: a pipe would be read from
    problems_.push_back({path, kind == EntryKind::kNeither ? kNoFile : kLinkToNothing});
  } else if (is_named_like_image(file) || begins_like_image(path)) {
    found.push_back({folder, file, path, 0, stamp_of(path).value_or(FileStamp{})});
  } else if (!archive_suffix(file).empty()) {
    problems_.push_back({path, kUnreadArchive});
  } else {
    ignored_.push_back(path);
  }
}

std::vector<PackSource::Found> PackSource::find_in_class_folders() {
  std::vector<Found> found, flat;
  for (const fs::directory_entry& entry : entries_of(input_)) {
    if (kind_of(entry) != EntryKind::kFolder) {
      take(entry, "", flat);
      continue;
    }
    const std::string name = entry.path().filename().string();
    class_names_.push_back(name);  // also one without images
    for (const fs::directory_entry& file : entries_of(entry.path().string())) take(file, name, found);
  }
  QM_CHECK(!class_names_.empty(), IoError, input_, ": holds no class folders (expected one sub-folder a class)",
           flat.empty() ? "" : "; images that lie flat need labels", why_none());
  QM_CHECK(!found.empty(), IoError, input_, ": no JPEG or PNG images in its ", class_names_.size(), " class folders",
           why_none());
  for (const Found& image : flat) problems_.push_back({image.name, kNoClassFolder});
  return found;
}

std::vector<PackSource::Found> PackSource::find_in_flat_folder() {
  std::vector<Found> found;
  for (const fs::directory_entry& entry : entries_of(input_)) take(entry, "", found);
  QM_CHECK(!found.empty(), IoError, input_, ": no JPEG or PNG images lie in it itself, as those that need labels do; ",
           "those in class folders need none", why_none());
  return found;
}

/// What a refusal adds where no images were found: what was found instead, and may be why.
std::string PackSource::why_none() const {
  std::string text;
  const auto unread = std::ranges::find(problems_, kUnreadFolder, &BadImage::cause);
  if (unread != problems_.end() && split_path(unread->path).first != input_) {
    text = concat("; folders lie in ", split_path(unread->path).first,
                  ": if the class folders are in there, or in a folder beside it, choose that as input");
  } else if (!problems_.empty()) {
    const auto& [path, cause] = problems_.front();
    text = concat("; ", path == input_ ? "" : path + ": ", cause);
  }
  if (!hidden_.empty()) text += concat("; hidden and so passed over: ", hidden_.size(), ", such as ", hidden_.front());
  return text;
}

// ---- archives -------------------------------------------------------------------------------------------------------

/// Lists `archive` in bytes [begin, end) of the input as if it were unpacked into `folder`.
PackSource::Contents PackSource::list(const std::string& archive, std::uint64_t begin, std::uint64_t end,
                                      const std::string& folder) {
  const TarListing listing = list_tar(*archive_, begin, end);
  const std::string prefix = folder.empty() ? "" : folder + "/";
  const auto passes_over = [&](const std::string& path) {
    if (!lies_in(split_path(path).first, inside_)) return true;
    const std::string hidden = hidden_part(path);
    if (!hidden.empty()) hidden_.push_back(input_ + "/" + hidden);
    return !hidden.empty();
  };
  Contents contents;
  contents.damaged_header = listing.damaged_header;
  for (const std::string& problem : listing.problems) problems_.push_back({archive, problem});
  for (const std::string& name : listing.folders) {
    const std::string path = prefix + name;
    if (lies_in(path, inside_) && hidden_part(path).empty()) add_folders(path, contents.folders);
  }
  FileStamp stamp = stamp_of(input_).value_or(FileStamp{});
  for (const TarEntry& entry : listing.entries) {
    const std::string path = prefix + entry.name, name = input_ + "/" + path;
    auto [parent, file] = split_path(path);
    if (file.empty() || passes_over(path)) continue;
    add_folders(parent, contents.folders);
    stamp.bytes = entry.size;
    const bool is_image = is_named_like_image(file) || begins_like_image(*archive_, entry.offset, entry.size);
    const bool is_archive = !archive_suffix(file).empty();
    if (is_image && entry.whole) {
      contents.images.push_back({std::move(parent), std::move(file), name, entry.offset, stamp});
    } else if (is_archive && !is_image) {
      contents.archives.push_back({std::move(parent), std::move(file), name, entry.offset, stamp});
    } else if (entry.whole) {
      ignored_.push_back(name);
    }
  }
  for (const DanglingLink& link : listing.dangling) {
    const std::string path = prefix + link.name, name = input_ + "/" + path;
    if (passes_over(path)) continue;
    const std::string file = split_path(path).second;
    const bool matters =
        is_named_like_image(file) || !archive_suffix(file).empty() || contents.folders.contains(prefix + link.target);
    if (matters) problems_.push_back({name, concat("a link to ", link.target, ", which is no file in the archive")});
    if (!matters) ignored_.push_back(name);
  }
  for (const std::string& special : listing.special) {
    const std::string path = prefix + special;
    if (!passes_over(path)) problems_.push_back({input_ + "/" + path, kNoFile});
  }
  return contents;
}

std::vector<PackSource::Found> PackSource::find_in_archive(const SourceOptions& options) {
  archive_ = std::make_unique<InputFile>(input_);
  Contents contents = list(input_, 0, archive_->size(), "");
  // What one of the archives holds may have been listed as lying beside them.
  QM_CHECK(contents.archives.empty() || !contents.damaged_header, IoError, input_, ": damaged header at byte ",
           contents.damaged_header.value_or(0), ", among archives: a whole one may be lost");
  const bool is_nested = options.labels.empty() && contents.archives.size() > contents.images.size();
  if (is_nested) {
    for (const Found& image : contents.images)
      problems_.push_back({image.name, "an image where archives are expected"});
    contents.images = find_in_inner_archives(contents.archives);
  } else {
    for (const Found& archive : contents.archives) problems_.push_back({archive.name, kUnreadArchive});
    if (options.labels.empty() && !contents.images.empty()) take_class_folders(contents);
  }
  QM_CHECK(!contents.images.empty(), IoError, input_, ": no JPEG or PNG images",
           inside_.empty() ? "" : " under '" + inside_ + "'", why_none());
  return std::move(contents.images);
}

/// The folders in `place` that images lie in are the classes, and so are those beside them.
void PackSource::take_class_folders(Contents& contents) {
  std::vector<Found>& images = contents.images;
  const auto is_flat = [](const Found& image) { return image.folder.empty(); };
  QM_CHECK(!std::ranges::all_of(images, is_flat), IoError, images.front().name, ": ", kNoClassFolder,
           "; images that lie flat need labels");
  const std::string place = place_of_classes(images);
  std::set<std::string> unread;
  for (Found& image : images) {
    auto [parent, folder] = split_path(image.folder);
    if (is_flat(image) || !lies_in(parent, place)) {
      problems_.push_back({image.name, kNoClassFolder});
      image.folder.clear();
    } else if (parent != place) {
      const std::size_t class_end = image.folder.find('/', place.empty() ? 0 : place.size() + 1);
      unread.insert(image.folder.substr(0, image.folder.find('/', class_end + 1)));
      image.folder.clear();
    } else {
      image.folder = std::move(folder);
    }
  }
  for (const std::string& folder : unread) problems_.push_back({input_ + "/" + folder, kUnreadFolder});
  std::erase_if(images, is_flat);
  for (const std::string& path : contents.folders) {
    auto [parent, folder] = split_path(path);
    if (parent == place) class_names_.push_back(std::move(folder));
  }
}

/// Where the class folders lie side by side: in `inside` if it has some, else where most images are. The others lie
/// beside or in class folders, unless it is neither: then they are classes too, such as those of another split.
std::string PackSource::place_of_classes(const std::vector<Found>& images) const {
  std::map<std::string, std::size_t> count;  // of images, by the folder that theirs lies in
  for (const Found& image : images) {
    if (!image.folder.empty()) ++count[split_path(image.folder).first];
  }
  const auto images_in = [](const auto& entry) { return entry.second; };
  const std::string most = std::ranges::max_element(count, {}, images_in)->first;
  const std::string place = !inside_.empty() && count.contains(inside_) ? inside_ : most;
  for (const auto& [other, images_there] : count) {
    if (!lies_in(place, other) && !lies_in(other, place)) refuse_places(place, other);
  }
  return place;
}

/// The archives are the classes, also those without images.
std::vector<PackSource::Found> PackSource::find_in_inner_archives(const std::vector<Found>& archives) {
  std::set<std::string> parents;
  for (const Found& archive : archives) parents.insert(archive.folder);
  if (parents.size() > 1) refuse_places(*parents.begin(), *parents.rbegin());
  std::vector<Found> images;
  for (const Found& archive : archives) {
    const std::string_view suffix = archive_suffix(archive.file);
    const std::string name = archive.file.substr(0, archive.file.size() - suffix.size());
    class_names_.push_back(name);
    if (suffix != kTar) {
      problems_.push_back({archive.name, "a compressed archive: expected one that is not"});
      continue;
    }
    const std::string folder = archive.folder.empty() ? name : archive.folder + "/" + name;
    Contents contents = list(archive.name, archive.offset, archive.offset + archive.stamp.bytes, folder);
    for (const Found& inner : contents.archives) problems_.push_back({inner.name, kUnreadArchive});
    for (Found& image : contents.images) {
      image.folder = name;  // whatever folders lie inside
      images.push_back(std::move(image));
    }
  }
  return images;
}

void PackSource::refuse_places(const std::string& one, const std::string& other) const {
  throw IoError(concat(input_, ": holds classes under '", std::min(one, other), "' and '", std::max(one, other),
                       "'; --inside chooses one of them"));
}

// ---- labels ---------------------------------------------------------------------------------------------------------

void PackSource::assign_labels(const SourceOptions& options, std::vector<Found> found) {
  if (!options.labels.empty()) {
    std::map<std::string, std::string> labels = read_labels(options.labels);
    std::set<std::string> unused;
    std::map<std::string, std::string> labelled;  // path by name
    for (const auto& [name, label] : labels) unused.insert(name);
    for (Found& file : found) {
      const auto label = labels.find(file.file);
      const std::string& first = labelled.emplace(file.file, file.name).first->second;
      const std::string cause = label == labels.end() ? concat("has no label in ", options.labels)
                                : first != file.name  ? concat("has the name and so the label of ", first)
                                                      : "";
      if (cause.empty()) {
        file.folder = label->second;
        unused.erase(file.file);
      } else {
        problems_.push_back({file.name, cause});
        file.file.clear();
      }
    }
    for (const std::string& name : unused)
      problems_.push_back({name, concat("labelled in ", options.labels, ", but not there")});
    const std::string first_image = found.front().name;
    std::erase_if(found, [](const Found& file) { return file.file.empty(); });
    QM_CHECK(!found.empty(), IoError, options.labels, ": labels none of the images in ", options.input, ": '",
             labels.begin()->first, "' say, but not ", first_image);
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
  std::ranges::sort(hidden_);
  hidden_.erase(std::ranges::unique(hidden_).begin(), hidden_.end());
}

std::vector<std::uint8_t> PackSource::read(const SourceImage& image) const {
  if (!archive_) return read_file(image.name);
  std::vector<std::uint8_t> bytes(image.bytes);
  archive_->read(image.offset, bytes);
  return bytes;
}

}  // namespace qm
