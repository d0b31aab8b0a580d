#include "launch/run_folder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include "kernels/base/error.h"
#include "tests/support/damaged_file.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

std::string text_of(const std::string& file) {
  const std::vector<std::uint8_t> bytes = bytes_of_file(file);
  return {bytes.begin(), bytes.end()};
}

TEST(launch, json_line_keeps_keys_in_order) {
  const JsonLine line = JsonLine().add("kind", std::string("train")).add("step", std::int64_t{-7}).add("loss", 2.5);
  EXPECT_EQ(line.text(), R"({"kind": "train", "step": -7, "loss": 2.5})");
  EXPECT_EQ(JsonLine().text(), "{}");
}

TEST(launch, json_line_escapes_text) {
  EXPECT_EQ(JsonLine().add("a\"b", std::string("q\"b\\n\n\x01 é")).text(), R"({"a\"b": "q\"b\\n\u000a\u0001 é"})");
}

TEST(launch, json_line_numbers_read_back_the_same) {
  for (const double number : {0.1, 1.0 / 3, 1e-300, 1.7976931348623157e308, 5e-324, -2.3025850929940455, 1e22, 3.0}) {
    const std::string text = JsonLine().add("x", number).text();
    EXPECT_EQ(std::strtod(text.c_str() + 6, nullptr), number) << text;
  }
}

TEST(launch, json_line_has_null_for_what_json_cannot_say) {
  EXPECT_EQ(JsonLine().add("x", std::nan("")).add("y", std::numeric_limits<double>::infinity()).text(),
            R"({"x": null, "y": null})");
}

JsonLine numbered(std::int64_t number) {
  return JsonLine().add("n", number);
}

TEST(launch, run_folder_cuts_samples_by_steps) {
  const TemporaryFolder folder;
  const RunFolder run(folder / "run");
  const std::string first = folder / "run/samples-0.txt", second = folder / "run/samples-13.txt";
  std::ofstream(first) << "0 0 7\n0 1 8\n1 0 9\n10 0 3\n1";
  // Steps 0 to 9 and, after a resume that counted them anew, 4 to 6.
  std::ofstream(second) << "0 0 1\n9 0 2\n4 0 3\n5 0 4\n6 0 5\n";
  std::ofstream(folder / "run/samples-of-mine.txt") << "99 0 0\n";
  run.truncate_samples(6);
  EXPECT_EQ(text_of(first), "0 0 7\n0 1 8\n1 0 9\n");
  EXPECT_EQ(text_of(second), "0 0 1\n9 0 2\n4 0 3\n5 0 4\n");
  run.truncate_samples(0);
  EXPECT_EQ(text_of(first) + text_of(second), "");
  EXPECT_EQ(text_of(folder / "run/samples-of-mine.txt"), "99 0 0\n");
}

TEST(launch, run_folder_cuts_metrics_by_lines) {
  const TemporaryFolder folder;
  const std::string metrics = folder / "run/metrics.jsonl";
  {
    RunFolder run(folder / "run");
    run.truncate_metrics(0);
    for (const std::int64_t n : {1, 2, 10}) run.record(numbered(n));
    EXPECT_EQ(run.metrics_lines(), 3);
  }
  EXPECT_EQ(text_of(metrics), "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 10}\n");
  RunFolder run(folder / "run");
  run.truncate_metrics(2);
  EXPECT_EQ(run.metrics_lines(), 2);
  run.record(numbered(3));
  EXPECT_EQ(run.metrics_lines(), 3);
  EXPECT_EQ(text_of(metrics), "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 3}\n");
}

TEST(launch, run_folder_goes_on_where_metrics_lost_lines) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "run");
  std::ofstream(folder / "run/metrics.jsonl") << "{\"n\": 1}\n{\"n\": ";
  RunFolder run(folder / "run");
  run.truncate_metrics(3);
  EXPECT_EQ(run.metrics_lines(), 1);
  run.record(numbered(4));
  EXPECT_EQ(text_of(folder / "run/metrics.jsonl"), "{\"n\": 1}\n{\"n\": 4}\n");
  EXPECT_NE(text_of(folder / "run/log.txt").find("holds only 1 of the 3 lines"), std::string::npos);
}

TEST(launch, run_folder_appends_to_the_log) {
  const TemporaryFolder folder;
  RunFolder(folder / "run").log("first");
  RunFolder(folder / "run").log("second");
  EXPECT_EQ(text_of(folder / "run/log.txt"), "first\nsecond\n");
}

TEST(launch, run_folder_belongs_to_one_at_a_time) {
  const TemporaryFolder folder;
  {
    const RunFolder first(folder / "run");
    try {
      const RunFolder second(folder / "run");
      FAIL() << "two at once";
    } catch (const IoError& error) {
      EXPECT_EQ(std::string(error.what()), folder / "run/.lock" + ": another process is at work in this folder");
    }
  }
  const RunFolder later(folder / "run");
}

TEST(launch, run_folder_writes_the_recipe_whole) {
  const TemporaryFolder folder;
  const RunFolder run(folder / "run");
  run.write_recipe("seed = 1\n");
  run.write_recipe("seed = 2\n");
  EXPECT_EQ(text_of(folder / "run/recipe.toml"), "seed = 2\n");
  EXPECT_FALSE(fs::exists(folder / "run/recipe.toml.tmp"));
}

TEST(launch, run_folder_lists_and_prunes_checkpoints) {
  const TemporaryFolder folder;
  const RunFolder run(folder / "run");
  EXPECT_FALSE(run.has_checkpoints());
  for (const std::int64_t step : {5, 20, 10, 12345678, 15}) std::ofstream(run.checkpoint_path(step)) << step;
  std::ofstream(run.path() + "/checkpoints/step-00000099.h5.tmp") << "half-written";
  EXPECT_TRUE(run.has_checkpoints());
  EXPECT_EQ(run.checkpoints(), (Strings{run.checkpoint_path(12345678), run.checkpoint_path(20), run.checkpoint_path(15),
                                        run.checkpoint_path(10), run.checkpoint_path(5)}));
  run.prune(2, 20);
  EXPECT_EQ(run.checkpoints(),
            (Strings{run.checkpoint_path(12345678), run.checkpoint_path(20), run.checkpoint_path(15)}));
}

TEST(launch, run_folder_with_the_best_alone_has_checkpoints) {
  const TemporaryFolder folder;
  const RunFolder run(folder / "run");
  std::ofstream(run.best_path()) << "best";
  run.prune(1, 100);
  EXPECT_TRUE(run.has_checkpoints());
  EXPECT_TRUE(run.checkpoints().empty());
}

TEST(launch, run_folder_removes_half_written_files_and_nothing_else) {
  const TemporaryFolder folder;
  const RunFolder run(folder / "run");
  std::ofstream(run.checkpoint_path(5)) << "whole";
  std::ofstream(run.checkpoint_path(10) + ".tmp") << "ha";
  std::ofstream(run.path() + "/recipe.toml.tmp") << "lf";
  run.remove_leftovers();
  EXPECT_EQ(entries_in(run.path()), (Strings{".lock", "checkpoints", "log.txt", "metrics.jsonl"}));
  EXPECT_EQ(entries_in(run.path() + "/checkpoints"), Strings{"step-00000005.h5"});
}

TEST(launch, run_folder_names_what_cannot_be_written) {
  const TemporaryFolder folder;
  std::ofstream(folder / "file") << "in the way";
  fs::create_directories(folder / "blocked/metrics.jsonl");
  for (const std::string& path : {folder / "file", folder / "blocked"}) {
    const std::string error = error_of([&] { RunFolder run(path); });
    EXPECT_TRUE(error.starts_with(path)) << error;
  }
}

}  // namespace
}  // namespace qm
