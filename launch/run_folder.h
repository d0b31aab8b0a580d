// The folder of a run: recipe.toml, log.txt, metrics.jsonl and checkpoints/.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "data/checkpoint.h"

namespace qm {

/// One JSON object on one line, keys in the order they were added.
class JsonLine {
 public:
  JsonLine& add(const std::string& key, const std::string& text);
  JsonLine& add(const std::string& key, double number);  ///< shortest form that reads back the same; null if not finite
  JsonLine& add(const std::string& key, std::int64_t number);
  std::string text() const { return "{" + fields_ + "}"; }

 private:
  void add_raw(const std::string& key, const std::string& value);
  std::string fields_;
};

/// What a run keeps on disk. Used by rank 0 alone.
class RunFolder {
 public:
  /// Makes the folder and its parts. Throws IoError naming what cannot be written.
  explicit RunFolder(std::string path);

  const std::string& path() const { return path_; }

  /// Writes the resolved recipe, whole or not at all.
  void write_recipe(const std::string& toml) const;

  /// Appends a line to log.txt and prints it.
  void log(const std::string& line);
  /// Appends an object to metrics.jsonl.
  void record(const JsonLine& line);
  /// Bytes of metrics.jsonl so far.
  std::int64_t metrics_bytes() const;
  /// Cuts metrics.jsonl to what it held when a checkpoint was written, so that a resumed run repeats no line.
  void truncate_metrics(std::int64_t bytes);

  /// step-*.h5, newest first.
  std::vector<std::string> checkpoints() const;
  std::string checkpoint_path(std::int64_t step) const;
  std::string best_path() const;
  /// Removes all but the `keep` newest step-*.h5.
  void prune(std::int64_t keep) const;

 private:
  std::string path_;
  std::ofstream log_, metrics_;
};

}  // namespace qm
