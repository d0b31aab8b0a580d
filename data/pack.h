// pack: from a tree or archive of images, one folder a class, to shards.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/pack_source.h"

namespace qm {

/// What is known before the first image is packed.
struct PackPlan {
  std::int64_t images = 0;
  std::int64_t classes = 0;
  std::int64_t shards = 0;       ///< at most: one whose images are all bad is left out
  std::int64_t kept_shards = 0;  ///< finished by an earlier run, if they prove sound
  std::uint64_t bytes = 0;       ///< of encoded images in all shards
  bool estimated = false;        ///< whether `bytes` was extrapolated from a few re-encoded images
};

/// Images that have been dealt with, of all.
struct PackProgress {
  std::int64_t done = 0;
  std::int64_t kept = 0;  ///< of these, in shards that an earlier run finished
  std::int64_t total = 0;
};

/// "pack: 300 of 1000 images, 50/s, 0:00:14 left", as this run's own images took `seconds`; before the first of those
/// "pack: 200 of 1000 images, kept from an earlier run".
std::string describe(const PackProgress& progress, double seconds);

struct PackOptions {
  std::string input;               ///< see data/pack_source.h, as for the next three
  std::string split;               ///< "train", "val", …
  std::string output;              ///< folder for the shards; made if absent
  std::int64_t shards = 0;         ///< 0: as few as keep a shard at about shard_bytes
  std::uint64_t seed = 0;          ///< of the order in which samples are dealt to the shards
  std::int64_t threads = 0;        ///< that read and decode; 0: one a core
  bool skip_bad = false;           ///< leave out images that cannot be decoded instead of giving up
  bool overwrite = false;          ///< replace shards of this split that are in `output`
  std::string inside{}, labels{}, classes{};
  std::uint64_t shard_bytes = std::uint64_t{1} << 30;
  std::int64_t short_side = 0;  ///< images with a longer short side are shrunk to it and stored as JPEG; 0 = off
  std::int64_t quality = 90;    ///< of images that are stored anew
  bool apply_exif = false;      ///< images that are not upright are turned and stored anew; else EXIF is ignored
  std::function<void(const PackPlan&)> announce{};      ///< called once, before the work starts
  std::function<void(const PackProgress&)> progress{};  ///< called now and then, from one thread
};

struct PackReport {
  std::int64_t images = 0;  ///< in the shards
  std::uint64_t bytes = 0;  ///< of encoded images in the shards
  std::vector<std::string> class_names;
  std::vector<std::string> empty_classes;  ///< without a single image
  std::vector<std::string> files;          ///< shards
  std::int64_t kept_shards = 0;            ///< of these, finished by an earlier run
  std::vector<std::string> damaged;        ///< what was wrong with shards that it finished and that were packed again
  std::vector<BadImage> skipped;           ///< with skip_bad, in the order of their paths
  std::vector<std::string> ignored;        ///< neither JPEG nor PNG, nor named like one
  std::vector<std::string> hidden;         ///< named .*, and so not looked into
};

/// Packs every JPEG and PNG (told by first bytes) that PackSource finds. A file named *.jpg, *.jpeg or *.png that is
/// neither counts as a bad image; other files are ignored and reported, hidden ones passed over and reported.
///
/// Each image is decoded once, whole, to prove that it is good, and stored with its original bytes unless short_side or
/// apply_exif ask for others. A sample's id is its place among the images sorted by class and name; the shards hold the
/// samples in an order shuffled by `seed`, so that every shard mixes the classes. Same input and options, same bytes,
/// whatever the number of threads.
///
/// The shards get their names only when all of them are complete: until then those that are lie in the folder
/// `<output>/<split>.partial`, and shards that are to be overwritten stay. Run again with the same input and options
/// after a failure or interruption, wherever it came, pack keeps the finished ones whose every byte is still right;
/// with others it starts anew. The input is the same where the names, places, sizes and times of change of its files
/// are.
///
/// Throws IoError (an image, naming it and the cause; a missing folder; no classes or images; a full disk; shards
/// already there; another process packing the same split into the same folder) or ConfigError (an option that makes no
/// sense).
PackReport pack(const PackOptions& options);

}  // namespace qm
