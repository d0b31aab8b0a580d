#include "launch/run_folder.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string_view>
#include <system_error>

#include "data/file.h"
#include "kernels/base/error.h"
#include "kernels/base/fault.h"

namespace qm {
namespace {

namespace fs = std::filesystem;

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", c);
      result += escape;
    } else {
      result += c;
    }
  }
  return result + "\"";
}

std::ofstream open_for_append(const std::string& path) {
  std::ofstream file(path, std::ios::app);
  QM_CHECK(file, IoError, path, ": cannot be written: ", std::generic_category().message(errno));
  return file;
}

void append_line(std::ofstream& file, const std::string& line, const std::string& path) {
  file << line << '\n';
  file.flush();
  QM_CHECK(file, IoError, path, ": cannot be written (disk full?)");
}

/// `front`, at least so many digits, `back`.
bool is_numbered(std::string_view name, std::string_view front, std::size_t digits, std::string_view back) {
  if (!name.starts_with(front) || !name.ends_with(back) || name.size() < front.size() + digits + back.size())
    return false;
  const std::string_view number = name.substr(front.size(), name.size() - front.size() - back.size());
  return std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; });
}

bool is_of_step(const std::string& name) {
  return is_numbered(name, "step-", 8, ".h5");
}

std::vector<std::string> paths_in(const std::string& folder) {
  std::vector<std::string> paths;
  try {
    for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  } catch (const fs::filesystem_error& error) {
    throw IoError(concat(folder, ": cannot read the folder: ", error.code().message()));
  }
  return paths;
}

void cut_file(const std::string& path, std::uint64_t bytes) {
  std::error_code error;
  fs::resize_file(path, bytes, error);
  QM_CHECK(!error, IoError, path, ": cannot be cut to ", bytes, " bytes: ", error.message());
}

}  // namespace

// ---- JSON ------------------------------------------------------------------------------------------------------------

JsonLine& JsonLine::add(const std::string& key, const std::string& text) {
  add_raw(key, quoted(text));
  return *this;
}

JsonLine& JsonLine::add(const std::string& key, double number) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, number).ptr;
  add_raw(key, std::isfinite(number) ? std::string(text, end) : "null");
  return *this;
}

JsonLine& JsonLine::add(const std::string& key, std::int64_t number) {
  add_raw(key, std::to_string(number));
  return *this;
}

void JsonLine::add_raw(const std::string& key, const std::string& value) {
  fields_ += (fields_.empty() ? "" : ", ") + quoted(key) + ": " + value;
}

// ---- folder ----------------------------------------------------------------------------------------------------------

RunFolder::RunFolder(std::string path) : path_(std::move(path)) {
  std::error_code error;
  fs::create_directories(path_ + "/checkpoints", error);
  QM_CHECK(!error, IoError, path_, ": cannot make the run folder: ", error.message());
  lock_ = std::make_unique<FileLock>(path_ + "/.lock");
  log_ = open_for_append(path_ + "/log.txt");
  metrics_ = open_for_append(path_ + "/metrics.jsonl");
}

void RunFolder::write_recipe(const std::string& toml) const {
  AtomicFile file(path_ + "/recipe.toml");
  file.write(0, std::span(reinterpret_cast<const std::uint8_t*>(toml.data()), toml.size()));
  file.finish();
  file.publish();
}

void RunFolder::log(const std::string& line) {
  std::cout << line + "\n" << std::flush;
  append_line(log_, line, path_ + "/log.txt");
}

void RunFolder::truncate_metrics(std::int64_t lines) {
  const std::string path = path_ + "/metrics.jsonl";
  const std::vector<std::uint8_t> bytes = read_file(path);
  auto end = bytes.begin();
  for (metrics_lines_ = 0; metrics_lines_ < lines; ++metrics_lines_) {
    const auto newline = std::find(end, bytes.end(), '\n');
    if (newline == bytes.end()) break;
    end = newline + 1;
  }
  if (metrics_lines_ < lines) log(concat(path, ": holds only ", metrics_lines_, " of the ", lines, " lines so far"));
  metrics_.close();
  cut_file(path, static_cast<std::uint64_t>(end - bytes.begin()));
  metrics_ = open_for_append(path);
}

void RunFolder::truncate_samples(std::int64_t step) const {
  for (const std::string& path : paths_in(path_)) {
    if (!is_numbered(fs::path(path).filename().string(), "samples-", 1, ".txt")) continue;
    std::ifstream file(path);
    QM_CHECK(file, IoError, path, ": cannot be read: ", std::generic_category().message(errno));
    // Up to the last line that stays: where steps were counted anew, higher ones of the old count may lie before it.
    std::uint64_t read = 0, kept = 0;  // bytes
    for (std::string line; std::getline(file, line) && !file.eof();) {
      read += line.size() + 1;
      std::int64_t its_step = step;
      std::from_chars(line.data(), line.data() + line.size(), its_step);
      if (its_step < step) kept = read;
    }
    if (kept < fs::file_size(path)) cut_file(path, kept);
  }
}

void RunFolder::record(const JsonLine& line) {
  append_line(metrics_, line.text(), path_ + "/metrics.jsonl");
  ++metrics_lines_;
}

void RunFolder::sync_metrics() const { InputFile(path_ + "/metrics.jsonl").sync(); }

void RunFolder::remove_leftovers() const {
  for (const char* place : {"", "/checkpoints"}) {
    for (const fs::path path : paths_in(path_ + place)) {
      std::error_code ignored;  // it costs space, not the run
      if (path.extension() == ".tmp") fs::remove(path, ignored);
    }
  }
  for (const fs::path path : paths_in(path_ + "/checkpoints")) {
    const bool is_in_the_way = path.extension() == ".h5" || path.extension() == ".tmp";
    std::error_code ignored;
    QM_CHECK(!is_in_the_way || !fs::is_directory(fs::symlink_status(path, ignored)), IoError, path.string(),
             ": a folder, where a checkpoint may have to be written: move it away");
  }
}

std::vector<std::string> RunFolder::checkpoints() const {
  std::vector<std::string> paths = paths_in(path_ + "/checkpoints");
  std::erase_if(paths, [](const std::string& path) { return !is_of_step(fs::path(path).filename()); });
  std::sort(paths.rbegin(), paths.rend());  // steps are zero-padded: names sort as numbers
  return paths;
}

std::string RunFolder::checkpoint_path(std::int64_t step) const {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld.h5", static_cast<long long>(step));
  return path_ + "/checkpoints/" + name;
}

std::string RunFolder::best_path() const { return path_ + "/checkpoints/best.h5"; }

bool RunFolder::has_best() const {
  return std::ranges::count(paths_in(path_ + "/checkpoints"), best_path()) > 0;
}

bool RunFolder::has_checkpoints() const {
  return !checkpoints().empty() || has_best();
}

void RunFolder::keep_old_best() {
  if (!sets_best_aside_ || !has_best()) return;
  const fs::path old = path_ + "/checkpoints/old-best.h5";
  std::error_code error;
  fs::remove(old, error);
  fs::create_hard_link(best_path(), old, error);
  if (error) fs::copy_file(best_path(), old, error);  // a file system without links
  QM_CHECK(!error, IoError, old.string(), ": cannot be made: ", error.message());
  sets_best_aside_ = false;
}

void RunFolder::prune(std::int64_t keep, std::int64_t step) const {
  std::error_code ignored;  // a checkpoint that cannot be removed costs space, not the run
  std::vector<std::string> paths = checkpoints();
  const auto kept = std::ranges::find_if(
      paths, [newest = checkpoint_path(step)](const std::string& path) { return path <= newest; });
  for (auto path = paths.begin(); path != kept && sets_aside_; ++path) {
    const fs::path from = *path;
    fs::rename(from, from.parent_path() / ("old-" + from.filename().string()), ignored);
  }
  paths.erase(paths.begin(), kept);
  for (std::size_t i = static_cast<std::size_t>(keep); i < paths.size(); ++i) {
    if (!fault_point("prune")) fs::remove(paths[i], ignored);
  }
}

}  // namespace qm
