// The folder of a run: recipe.toml, log.txt, metrics.jsonl and checkpoints/.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/checkpoint.h"
#include "data/file.h"

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
  /// Makes the folder and its parts, and keeps other processes out of it until it is gone. Throws IoError naming what
  /// cannot be written, or who is in there already.
  explicit RunFolder(std::string path);

  const std::string& path() const { return path_; }

  /// Writes the resolved recipe, whole or not at all.
  void write_recipe(const std::string& toml) const;

  /// Appends a line to log.txt and prints it.
  void log(const std::string& line);
  /// Cuts metrics.jsonl to its first `lines` lines, what it held when a checkpoint was written, so that a resumed run
  /// repeats none; to be called before the first record(). A file that has lost some of them (in a power cut, say) does
  /// not keep the run from going on: its whole lines stay, and the log says so.
  void truncate_metrics(std::int64_t lines);
  /// Cuts every samples-*.txt (--log-samples) to the steps before `step`, for the same reason.
  void truncate_samples(std::int64_t step) const;
  /// Appends an object to metrics.jsonl.
  void record(const JsonLine& line);
  /// Brings metrics.jsonl to the disk; by any thread.
  void sync_metrics() const;
  /// Lines of metrics.jsonl so far.
  std::int64_t metrics_lines() const { return metrics_lines_; }

  /// Removes what a process that was killed left of files it was writing. Throws IoError naming a folder that lies
  /// where a checkpoint may have to be written: better now than after the steps that it is to save.
  void remove_leftovers() const;
  /// step-*.h5, newest first.
  std::vector<std::string> checkpoints() const;
  std::string checkpoint_path(std::int64_t step) const;
  std::string best_path() const;
  bool has_best() const;
  /// Whether the folder holds a step-*.h5 or best.h5, good or not.
  bool has_checkpoints() const;
  /// Of the step-*.h5 up to `step`, removes all but the `keep` newest. Later ones are damaged ones that the run was not
  /// resumed from; they must not push out good ones.
  void prune(std::int64_t keep, std::int64_t step) const;
  /// The run's steps are counted anew, and lower: from the next prune() on, step-*.h5 of later steps are kept as
  /// old-step-*.h5, which nothing resumes from. Until then, without a checkpoint of the new count, they are the newest.
  void set_later_checkpoints_aside() { sets_aside_ = true; }
  /// best.h5 can be compared with nothing that this run will measure: the next keep_old_best() keeps it as old-best.h5.
  void set_best_aside() { sets_best_aside_ = true; }
  /// To be called before best.h5 is replaced. It stays until then: it may be the only good checkpoint.
  void keep_old_best();

 private:
  std::string path_;
  std::unique_ptr<FileLock> lock_;
  std::ofstream log_, metrics_;
  std::int64_t metrics_lines_ = 0;
  bool sets_aside_ = false, sets_best_aside_ = false;
};

}  // namespace qm
