// pack: from a tree of images, one folder a class, to shards.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace qm {

struct PackOptions {
  std::string input;         ///< folder with one sub-folder a class; their sorted names are the labels 0, 1, …
  std::string split;         ///< "train", "val", …
  std::string output;        ///< folder for the shards; made if absent
  std::int64_t shards = 0;   ///< 0: as few as keep a shard at about 1 GiB
  std::uint64_t seed = 0;    ///< of the order in which samples are dealt to the shards
  std::int64_t threads = 0;  ///< that read and decode; 0: one a core
  bool skip_bad = false;     ///< leave out images that cannot be decoded instead of giving up
  bool overwrite = false;    ///< replace shards of this split that are in `output`
  std::function<void(std::int64_t done, std::int64_t total)> progress{};  ///< called now and then, from one thread
};

struct BadImage {
  std::string path;
  std::string cause;
};

struct PackReport {
  std::int64_t images = 0;  ///< written
  std::uint64_t bytes = 0;  ///< of encoded images written
  std::vector<std::string> class_names;
  std::vector<std::string> empty_classes;  ///< without a single image written
  std::vector<std::string> files;          ///< shards
  std::vector<BadImage> skipped;           ///< with skip_bad, in the order of their paths
  std::vector<std::string> ignored;        ///< neither JPEG nor PNG, nor named like one
};

/// Packs every JPEG and PNG (told by first bytes) directly inside the class folders. A file named *.jpg, *.jpeg or
/// *.png that is neither counts as a bad image; other files are ignored and reported, hidden ones passed over silently.
///
/// Each image is decoded once, whole, to prove that it is good. A sample's id is its place among the images sorted by
/// class and name; the shards hold the samples in an order shuffled by `seed`, so that every shard mixes the classes.
/// Same tree and options, same bytes, whatever the number of threads.
///
/// The shards get their names only when all of them are complete: a failure or interruption leaves none, and shards
/// that are to be overwritten stay until then. Throws IoError (an image, naming it and the cause; a missing folder;
/// no classes or images; a full disk; shards already there) or ConfigError (an option that makes no sense).
PackReport pack(const PackOptions& options);

}  // namespace qm
