// A run that was stopped, killed or damaged and then resumed is the run that was never interrupted.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <span>

#include "data/checkpoint.h"
#include "data/crc32c.h"
#include "data/file.h"
#include "data/glyphs.h"
#include "data/pack.h"
#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

Strings with(Strings settings, const Strings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

void expect_text_in_file(const std::string& file, const std::string& text) {
  const std::vector<std::uint8_t> bytes = bytes_of_file(file);
  EXPECT_NE(std::string(bytes.begin(), bytes.end()).find(text), std::string::npos) << text << " is not in " << file;
}

void flip_byte_in_the_middle(const std::string& file) {
  std::vector<std::uint8_t> bytes = bytes_of_file(file);
  ASSERT_FALSE(bytes.empty()) << file;
  bytes[bytes.size() / 2] ^= 1;
  write_bytes(file, bytes);
}

void expect_same_end(const SmallProject& project, const std::string& run, const std::string& other, int step) {
  EXPECT_EQ(project.hash(project.checkpoint(run, step)), project.hash(project.checkpoint(other, step)));
  EXPECT_EQ(project.course(run), project.course(other));
}

/// 13 steps of 5 an epoch in one go, and in three parts, both stops in the middle of an epoch.
void expect_resume_equals_one_go(int ranks) {
  const SmallProject project;
  const Strings settings{"precision=fp32"};
  project.expect_train("whole", {.ranks = ranks, .settings = with(settings, {"train.max_steps=13"})});
  for (const char* end : {"train.max_steps=3", "train.max_steps=7", "train.max_steps=13"}) {
    project.expect_train("parts", {.ranks = ranks, .resume = true, .settings = with(settings, {end})});
  }
  ASSERT_EQ(project.course("whole").size(), 13u);
  expect_same_end(project, "parts", "whole", 13);
}

TEST(launch, resume_equals_one_go) {
  expect_resume_equals_one_go(1);
}

TEST(launch, resume_equals_one_go_on_two_ranks) {
  expect_resume_equals_one_go(2);
}

/// Killed with no checkpoint since step 4, and resumed.
void expect_resume_after_kill(int ranks) {
  const SmallProject project;
  const Strings endless{"train.epochs=1000", "eval.every_epochs=0", "checkpoint.every_epochs=0"};
  project.expect_train("whole", {.ranks = ranks, .settings = with(endless, {"train.max_steps=9"})});
  project.expect_train("killed", {.ranks = ranks, .settings = with(endless, {"train.max_steps=4"})});
  const KilledJob job = project.train_and_kill("killed", {.ranks = ranks, .resume = true, .settings = endless},
                                               {.rank = ranks - 1, .after_lines = 3});
  EXPECT_TRUE(job.killed && !job.result.succeeded()) << job.result.describe();
  EXPECT_EQ(entries_in(project / "killed/checkpoints"), (Strings{"best.h5", "step-00000004.h5"}));
  project.expect_train("killed", {.ranks = ranks, .resume = true, .settings = with(endless, {"train.max_steps=9"})});
  expect_same_end(project, "killed", "whole", 9);
}

TEST(launch, resume_is_refused_while_the_run_goes_on) {
  const SmallProject project;
  project.expect_train("run", {.settings = {"train.max_steps=2"}});
  const std::vector<std::uint8_t> metrics = bytes_of_file(project / "run/metrics.jsonl");
  const FileLock other(project / "run/.lock");
  const ProgramResult result = project.train("run", {.resume = true, .settings = {"train.max_steps=4"}});
  EXPECT_EQ(result.exit_code, 1) << result.describe();
  EXPECT_NE(result.error.find("another process is at work in this folder"), std::string::npos) << result.describe();
  EXPECT_EQ(bytes_of_file(project / "run/metrics.jsonl"), metrics);
}

TEST(launch, activation_checkpointing_changes_no_bit) {
  const SmallProject project;
  project.expect_train("kept", {.settings = {"train.max_steps=6"}});
  project.expect_train("again", {.settings = {"train.max_steps=3", "train.activation_checkpointing=true"}});
  project.expect_train("again",
                       {.resume = true, .settings = {"train.max_steps=6", "train.activation_checkpointing=true"}});
  expect_same_end(project, "again", "kept", 6);
}

TEST(launch, resume_after_kill) {
  expect_resume_after_kill(1);
}

TEST(launch, resume_after_kill_of_one_of_two_ranks) {
  expect_resume_after_kill(2);
}

TEST(launch, resume_of_a_finished_run_changes_nothing) {
  const SmallProject project;
  const Strings settings{"train.max_steps=4"};
  project.expect_train("run", {.settings = settings});
  const Strings course = project.course("run");
  const std::vector<std::uint8_t> before = bytes_of_file(project.checkpoint("run", 4));
  const ProgramResult again = project.train("run", {.resume = true, .settings = settings});
  EXPECT_TRUE(again.succeeded()) << again.describe();
  EXPECT_NE(again.out.find("nothing to do"), std::string::npos) << again.describe();
  EXPECT_EQ(project.course("run"), course);
  EXPECT_EQ(bytes_of_file(project.checkpoint("run", 4)), before);
}

TEST(launch, resume_without_a_checkpoint_starts_the_run) {
  const SmallProject project;
  project.expect_train("run", {.resume = true, .settings = {"train.max_steps=2"}});
  EXPECT_EQ(project.losses("run").size(), 2u);
}

TEST(launch, resume_passes_over_a_damaged_checkpoint) {
  const SmallProject project;
  project.expect_train("whole", {.settings = {"train.max_steps=13"}});
  project.expect_train("run", {.settings = {"train.max_steps=12"}});
  flip_byte_in_the_middle(project.checkpoint("run", 12));

  const ProgramResult first =
      project.train("run", {.resume = true, .settings = {"train.max_steps=11", "checkpoint.keep_last=1"}});
  ASSERT_TRUE(first.succeeded()) << first.describe();
  EXPECT_NE(first.out.find("passed over: " + project.checkpoint("run", 12)), std::string::npos) << first.describe();
  EXPECT_NE(first.out.find(concat("resuming from ", project.checkpoint("run", 10), " at step 10")), std::string::npos)
      << first.describe();
  // The damaged one counts as no newer one: the good one stays.
  EXPECT_TRUE(std::filesystem::exists(project.checkpoint("run", 11)));

  const ProgramResult second =
      project.train("run", {.resume = true, .settings = {"train.max_steps=13", "checkpoint.every_epochs=0"}});
  ASSERT_TRUE(second.succeeded()) << second.describe();
  EXPECT_NE(second.out.find(concat("resuming from ", project.checkpoint("run", 11), " at step 11")), std::string::npos)
      << second.describe();
  expect_same_end(project, "run", "whole", 13);
}

TEST(launch, resume_refuses_when_no_checkpoint_is_good) {
  const SmallProject project;
  project.expect_train("run", {.settings = {"train.max_steps=2"}});
  flip_byte_in_the_middle(project.checkpoint("run", 2));
  flip_byte_in_the_middle(project / "run/checkpoints/best.h5");
  expect_refused(project.train("run", {.resume = true}), {project / "run", "2 checkpoints"});
  EXPECT_EQ(project.losses("run").size(), 2u) << "metrics.jsonl was cut";
}

TEST(launch, resume_takes_the_best_where_no_other_checkpoint_is_good) {
  const SmallProject project;
  project.expect_train("whole", {.settings = {"train.max_steps=5"}});
  project.expect_train("run", {.settings = {"train.max_steps=2"}});
  ASSERT_TRUE(std::filesystem::remove(project.checkpoint("run", 2)));
  const ProgramResult result = project.train("run", {.resume = true, .settings = {"train.max_steps=5"}});
  ASSERT_TRUE(result.succeeded()) << result.describe();
  EXPECT_NE(result.out.find("checkpoints/best.h5 at step 2"), std::string::npos) << result.describe();
  expect_same_end(project, "run", "whole", 5);
}

/// A checkpoint every 4 steps, an evaluation every 6, whose first is the best so far.
const Strings kApart{"eval.every_epochs=0", "eval.every_steps=6", "checkpoint.every_epochs=0",
                     "checkpoint.every_steps=4", "train.max_steps=9"};

TEST(launch, resume_takes_the_best_where_it_is_the_newest) {
  const SmallProject project;
  project.expect_train("whole", {.settings = kApart});
  // After the recipe, step-4.h5 and best.h5 of step 6, when step-8.h5 is due.
  const ProgramResult killed = project.train("run", {.settings = kApart, .options = {"--fault=kill@file-create:4"}});
  EXPECT_EQ(killed.signal, SIGKILL) << killed.describe();
  const ProgramResult result = project.train("run", {.resume = true, .settings = kApart});
  ASSERT_TRUE(result.succeeded()) << result.describe();
  EXPECT_NE(result.out.find("checkpoints/best.h5 at step 6"), std::string::npos) << result.describe();
  project.expect_like_whole("run", 9);
}

/// Makes best.h5 the checkpoint of a better evaluation than any other can be.
void praise(const std::string& best) {
  Checkpoint checkpoint = read_checkpoint(best);
  checkpoint.state.best_top1 = 1;
  write_checkpoint(best, checkpoint);
}

TEST(launch, a_resumed_run_replaces_the_best_by_a_better_one_only) {
  const SmallProject project;
  const std::string best = project / "run/checkpoints/best.h5";
  const auto train_to = [&](int step) {
    project.expect_train(
        "run", {.resume = true,
                .settings = {concat("train.max_steps=", step), "eval.every_steps=1", "checkpoint.every_epochs=0"}});
  };
  train_to(3);
  praise(best);
  const std::vector<std::uint8_t> bytes = bytes_of_file(best);
  train_to(7);
  EXPECT_EQ(bytes_of_file(best), bytes) << "replaced by a worse one";
  flip_byte_in_the_middle(best);
  train_to(8);  // nothing is known to be better than what its evaluation finds
  expect_text_in_file(project / "run/log.txt", "there is no good best.h5");
  EXPECT_EQ(read_checkpoint(best).state.step, 8);
}

TEST(launch, resume_with_other_validation_data_is_refused_unless_asked_for) {
  const SmallProject project;
  const Strings settings{"eval.every_steps=1", "checkpoint.every_epochs=0"};
  project.expect_train("run", {.settings = with(settings, {"train.max_steps=3"})});
  const std::string best = project / "run/checkpoints/best.h5", old = project / "run/checkpoints/old-best.h5";
  praise(best);
  const std::vector<std::uint8_t> bytes = bytes_of_file(best);

  TrainCall call{.resume = true, .settings = with(settings, {"train.max_steps=5", "eval.resize=40"})};
  expect_refused(project.train("run", call), {"--allow-change", "eval.resize: 0 in the checkpoint, 40 now"});
  write_glyphs(project / "others", "val", 25, 8);
  for (const std::string& shard : entries_in(project.data())) {
    if (shard.starts_with("val")) std::filesystem::remove(project.data() + "/" + shard);
  }
  pack({.input = project / "others/val", .split = "val", .output = project.data(), .shards = 2, .threads = 1});
  call.settings.pop_back();
  expect_refused(project.train("run", call), {"--allow-change", "validation data: digest "});
  EXPECT_EQ(bytes_of_file(best), bytes);

  project.expect_train("run", {.resume = true, .settings = call.settings, .options = {"--allow-change"}});
  EXPECT_EQ(bytes_of_file(old), bytes);
  EXPECT_EQ(read_checkpoint(best).state.best_step, read_checkpoint(best).state.step);
  EXPECT_GT(read_checkpoint(best).state.step, 3);
  EXPECT_EQ(project.metrics("run", "eval").back().number("count"), 25);
}

TEST(launch, resume_passes_over_links_to_nothing) {
  const SmallProject project;
  project.expect_train("whole", {.settings = {"train.max_steps=9"}});
  project.expect_train("run", {.settings = {"train.max_steps=8"}});
  const std::string newest = project.checkpoint("run", 8), best = project / "run/checkpoints/best.h5";
  for (const std::string& file : {newest, best}) {
    std::filesystem::remove(file);
    std::filesystem::create_symlink("nowhere", file);
  }
  const ProgramResult result = project.train("run", {.resume = true, .settings = {"train.max_steps=9"}});
  ASSERT_TRUE(result.succeeded()) << result.describe();
  for (const std::string& file : {newest, best}) {
    expect_said(result, "passed over: " + file + ": a link to a file that is not there");
  }
  expect_said(result, concat("resuming from ", project.checkpoint("run", 5), " at step 5"));
  expect_same_end(project, "run", "whole", 9);
}

TEST(launch, resume_refuses_a_folder_where_a_checkpoint_is_to_be_written) {
  const SmallProject project;
  project.expect_train("run", {.settings = {"train.max_steps=2"}});
  for (const char* name : {"/step-00000004.h5", "/step-00000004.h5.tmp", "/best.h5"}) {
    const std::string folder = project / "run/checkpoints" + name;
    std::filesystem::remove(folder);
    std::filesystem::create_directories(folder + "/kept");
    expect_refused(project.train("run", {.resume = true, .settings = {"train.max_steps=4"}}),
                   {folder + ": a folder, where a checkpoint"});
    EXPECT_EQ(project.losses("run").size(), 2u) << "it began to train";
    std::filesystem::remove_all(folder);
  }
}

TEST(launch, resume_does_not_pass_over_what_it_may_not_read) {
  const SmallProject project;
  project.expect_train("run", {.settings = {"train.max_steps=6"}});
  const Strings before = project.record("run");
  // Root ignores permissions; a link to itself is as unreadable to anybody.
  for (const std::string& file : {project.checkpoint("run", 6), project / "run/checkpoints/best.h5"}) {
    const std::string aside = file + ".aside";
    std::filesystem::rename(file, aside);
    std::filesystem::create_symlink(file, file);
    expect_refused(project.train("run", {.resume = true, .settings = {"train.max_steps=8"}}),
                   {file + ": cannot open: Too many levels of symbolic links; nothing older is resumed from"});
    std::filesystem::rename(aside, file);
  }
  EXPECT_EQ(project.record("run"), before);
}

TEST(launch, resume_does_not_pass_over_what_a_newer_program_wrote) {
  const SmallProject project;
  project.expect_train("run", {.settings = {"train.max_steps=6"}});
  const std::string newest = project.checkpoint("run", 6);
  std::vector<std::uint8_t> bytes = bytes_of_file(newest);
  ++bytes.at(8);  // the version
  const std::uint32_t crc = crc32c(std::span(bytes).first(508));
  std::memcpy(&bytes[508], &crc, sizeof crc);
  write_bytes(newest, bytes);
  expect_refused(project.train("run", {.resume = true, .settings = {"train.max_steps=8"}}),
                 {newest + ": has format version 2; this program reads up to version 1; nothing older"});
}

TEST(launch, resume_goes_on_where_metrics_lost_lines) {
  const SmallProject project;
  project.expect_train("whole", {.settings = {"train.max_steps=6"}});
  project.expect_train("run", {.settings = {"train.max_steps=4"}});
  const std::string metrics = project / "run/metrics.jsonl";
  const std::size_t two_lines_and_a_half = project.metrics("run", "train").at(0).text().size() * 5 / 2;
  std::filesystem::resize_file(metrics, two_lines_and_a_half);
  project.expect_train("run", {.resume = true, .settings = {"train.max_steps=6"}});
  EXPECT_EQ(project.hash(project.checkpoint("run", 6)), project.hash(project.checkpoint("whole", 6)));
  expect_text_in_file(project / "run/log.txt", "holds only 2 of the 6 lines");
  EXPECT_EQ(project.course("run").size(), 4u);  // steps 1, 2, 5, 6, each a whole line
}

TEST(launch, checkpoints_keep_the_last_and_the_best) {
  const SmallProject project;
  // Weights that hardly move: every evaluation finds the same accuracy, and the first one, at step 5, stays the best.
  const Strings settings{"optimizer.learning_rate=1e-12", "train.epochs=3", "checkpoint.every_epochs=0",
                         "checkpoint.keep_last=2"};
  project.expect_train("run", {.settings = with(settings, {"checkpoint.every_steps=7"})});
  EXPECT_EQ(entries_in(project / "run/checkpoints"), (Strings{"best.h5", "step-00000014.h5", "step-00000015.h5"}));

  const std::string best = project / "run/checkpoints/best.h5";
  const TrainingState state = read_checkpoint(best).state;
  EXPECT_EQ(state.step, 5);
  EXPECT_EQ(state.best_step, 5);
  double top1 = 0;
  for (const MetricsLine& line : project.metrics("run", "eval")) top1 = std::max(top1, line.number("top1"));
  EXPECT_EQ(state.best_top1, top1);
  project.expect_train("stopped", {.settings = with(settings, {"train.max_steps=5"})});
  EXPECT_EQ(project.hash(best), project.hash(project.checkpoint("stopped", 5)));
  EXPECT_NE(project.hash(best), project.hash(project.checkpoint("run", 15)));
}

}  // namespace
}  // namespace qm
