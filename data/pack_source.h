// Where pack finds images: a folder or a tar archive, with a sub-folder (or inner archive) a class, or flat beside a
// file of labels.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "data/file.h"

namespace qm {

struct SourceOptions {
  std::string input;    ///< a folder or a tar archive
  std::string inside;   ///< of a tar archive, only what lies under this path; "" = all
  std::string labels;   ///< see read_labels(), for images that lie flat; "" = classes by folder
  std::string classes;  ///< see read_class_names(): the classes in order; "" = those found, sorted
};

struct SourceImage {
  std::string name;  ///< for messages: the path, or "ARCHIVE/path inside"
  std::int32_t label = 0;
  std::uint64_t offset = 0, bytes = 0;     ///< in the archive; of a folder's image, offset 0
  std::int64_t modified = 0, changed = 0;  ///< times of the file that it lies in, as in FileStamp
};

/// Something that cannot be packed, and why.
struct BadImage {
  std::string path;
  std::string cause;
};

/// The images of a folder or archive, sorted by class and name, whose place among them is their id.
class PackSource {
 public:
  /// Lists every file that is a JPEG or PNG by its first bytes or is named *.jpg, *.jpeg or *.png, directly inside
  ///
  ///   - the class folders of a folder: its sub-folders;
  ///   - the class folders of an archive: those with images and the folders beside them. They lie side by side, in
  ///     `inside` itself or where most images are; images beside or deeper inside them are problems;
  ///   - an archive that holds more archives than images: each inner one is a class, named like it without ".tar". All
  ///     must lie side by side;
  ///   - with `labels`, the folder itself, or anywhere in the archive. Images are told by their file names; LABEL is a
  ///     class name or, with `classes`, a number from 0.
  ///
  /// A class may be without images. What is hidden is passed over and listed. Throws IoError: what cannot be read,
  /// nothing to pack, class folders in two folders of which neither lies in the other, a class that `classes` lacks, a
  /// line of `labels` without a label, a damaged header between archives.
  explicit PackSource(const SourceOptions& options);

  const std::vector<std::string>& class_names() const { return class_names_; }
  const std::vector<SourceImage>& images() const { return images_; }
  const std::vector<std::string>& ignored() const { return ignored_; }  ///< what holds no images
  /// Files and folders whose names begin with a dot, a folder once. They are not looked into, so may hold images.
  const std::vector<std::string>& hidden() const { return hidden_; }
  /// What may hold images and is not packed: damaged parts of an archive, archives and folders where images are
  /// expected, images where classes are, images without a label, links to nothing, pipes and devices.
  const std::vector<BadImage>& problems() const { return problems_; }

  /// The encoded bytes of an image. Thread-safe. Throws IoError.
  std::vector<std::uint8_t> read(const SourceImage& image) const;

 private:
  struct Found;
  struct Contents;
  std::vector<Found> find_in_class_folders();
  std::vector<Found> find_in_flat_folder();
  std::string why_none() const;
  std::vector<std::filesystem::directory_entry> entries_of(const std::string& folder);
  void take(const std::filesystem::directory_entry& entry, const std::string& folder, std::vector<Found>& found);
  std::vector<Found> find_in_archive(const SourceOptions& options);
  Contents list(const std::string& archive, std::uint64_t begin, std::uint64_t end, const std::string& folder);
  void take_class_folders(Contents& contents);
  std::vector<Found> find_in_inner_archives(const std::vector<Found>& archives);
  std::string place_of_classes(const std::vector<Found>& images) const;
  [[noreturn]] void refuse_places(const std::string& one, const std::string& other) const;
  void assign_labels(const SourceOptions& options, std::vector<Found> found);

  std::string input_, inside_;
  std::unique_ptr<InputFile> archive_;  // none for a folder
  std::vector<std::string> class_names_;
  std::vector<SourceImage> images_;
  std::vector<std::string> ignored_, hidden_;
  std::vector<BadImage> problems_;
};

}  // namespace qm
