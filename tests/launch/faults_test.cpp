// Whatever ends a run, the job ends soon, says who did it, and --resume ends as if nothing had happened.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "launch/resume.h"
#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

constexpr int kSteps = 12;
/// Generous for a busy machine, and far below the 600 s for which ranks wait for one another.
constexpr double kDeadline = 60;

/// To step 12, 5 steps an epoch, with a checkpoint every 3 steps besides those of the epochs.
TrainCall to_the_end(int ranks) {
  return {.ranks = ranks,
          .resume = true,
          .settings = {concat("train.max_steps=", kSteps), "checkpoint.every_steps=3", "checkpoint.keep_last=2"},
          .options = {}};
}

TrainCall with_fault(TrainCall call, const std::string& fault) {
  call.options.push_back("--fault=" + fault);
  return call;
}

ProgramResult train_within_deadline(const SmallProject& project, const std::string& run, const TrainCall& call) {
  const RunOptions options{.environment = {}, .timeout_seconds = kDeadline, .folder = {}};
  const ProgramResult result = run_on_ranks(call.ranks, project.train_arguments(run, call), options);
  EXPECT_FALSE(result.timed_out) << result.describe();
  return result;
}

void expect_said(const ProgramResult& result, const std::string& text) {
  EXPECT_NE((result.out + result.error).find(text), std::string::npos) << "'" << text << "' in\n" << result.describe();
}

/// Expects what an undisturbed run leaves: the same weights, the same lines of metrics.jsonl, no half-written file.
void expect_like_whole(const SmallProject& project, const std::string& run) {
  EXPECT_EQ(project.hash(project.checkpoint(run, kSteps)), project.hash(project.checkpoint("whole", kSteps)));
  EXPECT_EQ(project.record(run), project.record("whole"));
  EXPECT_EQ(entries_in(project / (run + "/checkpoints")), entries_in(project / "whole/checkpoints"));
}

void expect_resumes_like_whole(const SmallProject& project, const std::string& run, int ranks) {
  const ProgramResult result = train_within_deadline(project, run, to_the_end(ranks));
  EXPECT_TRUE(result.succeeded()) << result.describe();
  expect_like_whole(project, run);
}

// ---- ranks that die or freeze
// ----------------------------------------------------------------------------------------

void expect_survives_kills(int kills, std::uint32_t seed) {
  constexpr int kRanks = 2;
  const SmallProject project;
  project.expect_train("whole", to_the_end(kRanks));
  std::mt19937 random(seed);
  int killed = 0;
  for (int i = 0; i < kills; ++i) {
    const int rank = static_cast<int>(random() % kRanks);
    const std::string fault = concat("kill@step:", 1 + random() % 5, ",rank=", rank);
    SCOPED_TRACE(concat("kill ", i, ": ", fault));
    const ProgramResult result = train_within_deadline(project, "killed", with_fault(to_the_end(kRanks), fault));
    if (result.succeeded()) {  // fewer steps were left: once more from the start
      expect_like_whole(project, "killed");
      fs::remove_all(project / "killed");
      continue;
    }
    ++killed;
    expect_said(result, concat("rank ", rank));
  }
  EXPECT_GE(killed, kills / 2);
  expect_resumes_like_whole(project, "killed", kRanks);
}

TEST(faults, sigkill_of_a_rank_at_random_steps) {
  expect_survives_kills(4, 1);
}

TEST(faults, slow_sigkill_of_a_rank_at_random_steps_20_times) {
  expect_survives_kills(20, 2);
}

TEST(faults, a_frozen_rank_is_named_within_the_deadline) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(3));
  TrainCall call = with_fault(to_the_end(3), "stop@step:8,rank=2");
  call.options.push_back("--deadline=8");
  const ProgramResult result = train_within_deadline(project, "frozen", call);
  EXPECT_FALSE(result.succeeded());
  expect_said(result, "not done after 8 s; no sign of rank 2");
  expect_resumes_like_whole(project, "frozen", 3);
}

TEST(faults, a_rank_that_freezes_in_an_evaluation_is_named) {
  const SmallProject project;
  TrainCall call = with_fault(to_the_end(2), "stop@evaluate:1,rank=0");
  call.options.push_back("--deadline=8");
  expect_said(train_within_deadline(project, "frozen", call), "no sign of rank 0");
}

// ---- checkpoints
// -----------------------------------------------------------------------------------------------------

/// Every operation of the checkpoints that a run from step 5 to 12 writes: those of step 6 (its recipe is written
/// before), and of step 9 or 10, as best.h5 and step-*.h5.
const Strings kStages{"file-create:2", "file-write:2",  "file-write:3",  "file-write:4", "file-sync:2",
                      "file-rename:2", "folder-sync:2", "file-create:4", "file-sync:4",  "file-rename:4"};

void expect_survives_at_every_stage(const std::string& action) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  TrainCall first = to_the_end(1);
  first.settings.front() = "train.max_steps=5";
  project.expect_train("start", first);
  for (const std::string& stage : kStages) {
    SCOPED_TRACE(action + "@" + stage);
    fs::remove_all(project / "run");
    fs::copy(project / "start", project / "run", fs::copy_options::recursive);
    const ProgramResult result = train_within_deadline(project, "run", with_fault(to_the_end(1), action + "@" + stage));
    if (action == "kill") {
      EXPECT_EQ(result.signal, SIGKILL) << result.describe();
    } else {
      expect_refused(result, {project / "run/checkpoints", "No space left on device"});
    }
    expect_resumes_like_whole(project, "run", 1);
  }
}

TEST(faults, kill_at_every_stage_of_a_checkpoint_write) {
  expect_survives_at_every_stage("kill");
}

TEST(faults, failure_at_every_stage_of_a_checkpoint_write) {
  expect_survives_at_every_stage("fail");
}

/// Trains on one rank as `prelude`, a part of a command line, has it.
ProgramResult train_under(const Strings& prelude, const SmallProject& project, const std::string& run) {
  Strings command = prelude;
  command.push_back(QM_PROGRAM);
  const Strings arguments = project.train_arguments(run, to_the_end(1));
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run_program(command, {.environment = {"OMP_NUM_THREADS=1"}, .timeout_seconds = kDeadline, .folder = {}});
}

TEST(faults, a_full_disk_is_named) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  // Files cannot outgrow 1 MB; a checkpoint has 3.6.
  const ProgramResult result = train_under({"bash", "-c", R"(ulimit -f 1000; exec "$@")", "bash"}, project, "run");
  expect_refused(result, {project.checkpoint("run", 3) + ": cannot write: File too large"});
  expect_resumes_like_whole(project, "run", 1);
}

TEST(faults, a_full_disk_under_mpirun_ends_the_job) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(2));
  const ProgramResult result = train_within_deadline(project, "run", with_fault(to_the_end(2), "fail@file-write:4"));
  EXPECT_FALSE(result.succeeded());
  expect_said(result, concat("quadmamba [rank 0]: ", project / "run/checkpoints/"));
  expect_resumes_like_whole(project, "run", 2);
}

TEST(faults, a_read_only_folder_is_named) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  EXPECT_EQ(train_within_deadline(project, "run", with_fault(to_the_end(1), "kill@step:5")).signal, SIGKILL);
  const std::string folder = project / "run/checkpoints";
  fs::permissions(folder, fs::perms::owner_read | fs::perms::owner_exec);
  // Root ignores permissions unless it gives that right away.
  Strings unprivileged{"setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"};
  if (geteuid() != 0) unprivileged = {"env"};
  const ProgramResult result = train_under(unprivileged, project, "run");
  fs::permissions(folder, fs::perms::owner_all);
  expect_refused(result, {folder, "Permission denied"});
  expect_resumes_like_whole(project, "run", 1);
}

TEST(faults, a_flipped_byte_anywhere_in_the_newest_checkpoint_is_passed_over) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  TrainCall first = to_the_end(1);
  first.settings.front() = "train.max_steps=10";
  project.expect_train("run", first);
  const std::string newest = project.checkpoint("run", 10);
  const std::vector<std::uint8_t> bytes = bytes_of_file(newest);
  ASSERT_FALSE(bytes.empty());
  std::mt19937_64 random(3);
  std::vector<std::size_t> places{0, 7, 8, 16, 40, 44, 507, 508, 511, 512, 513, bytes.size() / 2, bytes.size() - 1};
  for (int i = 0; i < 60; ++i) places.push_back(random() % bytes.size());
  {
    RunFolder folder(project / "run");  // which keeps the trainer out
    for (const std::size_t place : places) {
      std::vector<std::uint8_t> flipped = bytes;
      flipped[place] ^= static_cast<std::uint8_t>(1u << random() % 8);
      write_bytes(newest, flipped);
      const auto found = newest_good_checkpoint(folder);
      ASSERT_TRUE(found) << "byte " << place;
      EXPECT_EQ(found->path, project.checkpoint("run", 9)) << "byte " << place;
    }
  }
  const ProgramResult result = train_within_deadline(project, "run", to_the_end(1));
  expect_said(result, concat("passed over: ", newest, ": damaged"));
  expect_said(result, concat("resuming from ", project.checkpoint("run", 9)));
  expect_like_whole(project, "run");
}

TEST(faults, specs_that_mean_nothing_are_refused) {
  const SmallProject project;
  for (const char* spec :
       {"kill", "kill@nowhere", "explode@step", "kill@step:0", "kill@step:x", "kill@step:", "kill@step:1,rank="}) {
    expect_refused(project.train("run", with_fault({}, spec)), {concat("fault '", spec, "'")});
  }
}

}  // namespace
}  // namespace qm
