// Whatever ends a run, the job ends soon, says who did it, and --resume ends as if nothing had happened.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "dist/rank_names.h"
#include "launch/resume.h"
#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

namespace fs = std::filesystem;

/// What a job may take besides the deadline that it is given: its start, the steps up to the fault, a roll call, and
/// the end of all processes, on a busy machine.
constexpr double kBesides = 25;

// ---- ranks that die or freeze ---------------------------------------------------------------------------------------

void expect_survives_kills(int kills, std::uint32_t seed) {
  constexpr int kRanks = 2;
  const SmallProject project;
  project.expect_train("whole", to_the_end(kRanks));
  std::mt19937 random(seed);
  for (int killed = 0; killed < kills;) {
    const int rank = static_cast<int>(random() % kRanks);
    const std::string fault = concat("kill@step:", 1 + random() % 5, ",rank=", rank);
    SCOPED_TRACE(concat("kill ", killed, ": ", fault));
    const ProgramResult result =
        project.train_within(kJobSeconds, "killed", to_the_end(kRanks).with("--fault=" + fault));
    if (result.succeeded()) {  // fewer steps were left: once more from the start
      project.expect_like_whole("killed");
      fs::remove_all(project / "killed");
      continue;
    }
    ++killed;
    expect_said(result, concat("rank ", rank));
  }
  project.expect_resumes_like_whole("killed", kRanks);
}

TEST(faults, sigkill_of_a_rank_at_random_steps) {
  expect_survives_kills(4, 1);
}

/// Not at a seam of the program: whatever the rank is at, in a step, a sum, an evaluation or a checkpoint's write.
TEST(faults, slow_sigkill_from_outside_at_random_times_20_times) {
  constexpr int kRanks = 2, kKills = 20, kSteps = 160;
  const SmallProject project;
  TrainCall call = to_the_end(kRanks);
  call.settings.front() = concat("train.max_steps=", kSteps);
  call.settings.push_back("train.epochs=32");
  project.expect_train("whole", call);
  std::mt19937 random(3);
  int killed = 0;
  // A kill comes at most some 6 steps after the newest checkpoint or a little more: all fit into one run of 160. Where
  // a machine was so slow to send them that a run ended before, the next begins anew.
  for (int runs = 0; killed < kKills && runs < 3; ++runs) {
    fs::remove_all(project / "killed");
    for (bool ended = false; killed < kKills && !ended;) {
      const Kill kill{.rank = static_cast<int>(random() % kRanks),
                      .after_lines = 1 + random() % 4,
                      .delay = std::chrono::milliseconds(random() % 200)};
      SCOPED_TRACE(concat("kill ", killed, " of rank ", kill.rank, " after ", kill.after_lines, " lines and ",
                          kill.delay.count(), " ms"));
      const KilledJob job = project.train_and_kill("killed", call, kill);
      ended = !job.killed;
      if (ended) continue;
      ++killed;
      EXPECT_FALSE(job.result.succeeded()) << job.result.describe();
      EXPECT_LE(job.seconds_left, kBesides) << job.result.describe();
      expect_said(job.result, concat("rank ", kill.rank));
    }
  }
  EXPECT_EQ(killed, kKills);
  const ProgramResult result = project.train_within(2 * kJobSeconds, "killed", call);
  EXPECT_TRUE(result.succeeded()) << result.describe();
  project.expect_like_whole("killed", kSteps);
}

/// With --deadline=8, which must have passed, and not much more.
void expect_ended_by_a_deadline_of_8_s(const ProgramResult& result, const std::string& what) {
  EXPECT_FALSE(result.succeeded());
  EXPECT_GE(result.seconds, 8) << result.describe();
  EXPECT_LE(result.seconds, 8 + kBesides) << result.describe();
  expect_said(result, what);
}

TEST(faults, a_frozen_rank_is_named_within_the_deadline) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(3));
  const TrainCall call = to_the_end(3).with("--fault=stop@step:8,rank=2").with("--deadline=8");
  expect_ended_by_a_deadline_of_8_s(project.train("frozen", call), "not done after 8 s; no sign of rank 2");
  project.expect_resumes_like_whole("frozen", 3);
}

TEST(faults, a_rank_that_freezes_in_an_evaluation_is_named) {
  const SmallProject project;
  const TrainCall call = to_the_end(2).with("--fault=stop@evaluate:1,rank=0").with("--deadline=8");
  expect_ended_by_a_deadline_of_8_s(project.train("frozen", call), "no sign of rank 0");
}

TEST(faults, a_rank_that_freezes_before_or_after_all_work_is_named) {
  const SmallProject project;
  const TrainCall call = to_the_end(2).with("--deadline=8");
  expect_ended_by_a_deadline_of_8_s(project.train("run", call.with("--fault=stop@end,rank=1")),
                                    "MPI_Ibarrier at the end: not done after 8 s; no sign of rank 1");
  for (const char* device : {"--device=auto", "--device=cpu"}) {
    const ProgramResult result =
        run_on_ranks(2, {"eval", "--checkpoint", project.checkpoint("run", kLastStep), "--data", project.data(),
                         "--deadline", "8", "--fault=stop@load,rank=1", device});
    expect_ended_by_a_deadline_of_8_s(result, "not done after 8 s; no sign of rank 1");
  }
}

/// Trains on two ranks with --deadline=8, rank 1 as `prelude`, a piece of bash that ends in a command, has it.
ProgramResult train_with_rank_1_under(const std::string& prelude, const SmallProject& project, const Strings& options) {
  TrainCall call = to_the_end(2).with("--deadline=8");
  call.options.insert(call.options.end(), options.begin(), options.end());
  return project.train_through(R"([[ $OMPI_COMM_WORLD_RANK == 0 ]] && exec "$@"; )" + prelude + R"( "$@")", "run",
                               call);
}

/// Before MPI has started ranks cannot ask one another.
TEST(faults, a_rank_that_freezes_before_mpi_has_started_is_named) {
  const SmallProject project;
  const ProgramResult result = train_with_rank_1_under("kill -STOP $$; exec", project, {});
  expect_ended_by_a_deadline_of_8_s(result, concat("quadmamba: rank 0 on ", name_of_host(),
                                                   ": the start of MPI: not done after 8 s; no sign of rank 1"));
}

TEST(faults, ranks_are_named_with_their_hosts_where_there_are_several) {
  // This machine under another name, as far as that is allowed here.
  const std::string elsewhere = R"(exec unshare --map-root-user --uts bash -c 'hostname elsewhere; exec "$@"' bash)";
  if (!run_program({"bash", "-c", elsewhere + " true"}).succeeded()) GTEST_SKIP() << "no second name for this machine";
  const SmallProject project;
  const ProgramResult result = train_with_rank_1_under(elsewhere, project, {"--fault=stop@step:2,rank=1"});
  expect_ended_by_a_deadline_of_8_s(result, "s; no sign of rank 1 on elsewhere");
  expect_said(result, concat("quadmamba [rank 0 on ", name_of_host(), "]: MPI rank 0 on ", name_of_host(), ": MPI_"));
}

TEST(faults, one_line_says_why_a_job_ends) {
  const SmallProject project;
  TrainCall call{.ranks = 3, .options = {"--deadline=8"}};
  Strings arguments = project.train_arguments("run", call);
  *std::find(arguments.begin(), arguments.end(), project.data()) = project / "nowhere";
  EXPECT_EQ(error_lines(run_on_ranks(3, arguments)).size(), 1u);
  EXPECT_EQ(error_lines(project.train("run", call.with("--fault=stop@step:2,rank=1"))).size(), 1u);
}

// ---- checkpoints ----------------------------------------------------------------------------------------------------

/// Every operation on these of the files that a run to_the_end writes: after its recipe, the first, step-3.h5 alone is
/// the second, best.h5 and step-5.h5 of one save are third and fourth. A checkpoint is written in so many parts, its
/// guard last.
Strings stages_of_writes(const std::vector<int>& files, int parts) {
  Strings stages;
  for (const int file : files) {
    for (const char* operation : {"file-create", "file-sync", "file-rename", "folder-sync"}) {
      stages.push_back(concat(operation, ":", file));
    }
    const int first = 2 + (file - 2) * parts;
    for (const int part : {first, first + parts / 2, first + parts - 1}) stages.push_back(concat("file-write:", part));
  }
  return stages;
}

int parts_of(const std::string& checkpoint) {
  constexpr std::uintmax_t kGuard = 512, kPart = 1 << 20;
  return static_cast<int>((fs::file_size(checkpoint) - kGuard + kPart - 1) / kPart) + 1;
}

void expect_survives_at_every_stage(const std::string& action, const std::vector<int>& files) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  for (const std::string& stage : stages_of_writes(files, parts_of(project.checkpoint("whole", kLastStep)))) {
    SCOPED_TRACE(action + "@" + stage);
    fs::remove_all(project / "run");
    const ProgramResult result =
        project.train_within(kJobSeconds, "run", to_the_end(1).with("--fault=" + action + "@" + stage));
    if (action == "kill") {
      EXPECT_EQ(result.signal, SIGKILL) << result.describe();
    } else {
      expect_refused(result, {project / "run/checkpoints", "No space left on device"});
    }
    project.expect_resumes_like_whole("run", 1);
  }
}

TEST(faults, kill_at_every_stage_of_a_checkpoint_write) {
  expect_survives_at_every_stage("kill", {2, 3, 4});
}

TEST(faults, failure_at_every_stage_of_a_checkpoint_write) {
  expect_survives_at_every_stage("fail", {4});
}

TEST(faults, a_checkpoint_that_the_disk_garbles_costs_no_older_one) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  const int parts = parts_of(project.checkpoint("whole", kLastStep));
  for (const int part : {2 + parts, 1 + 3 * parts}) {  // the first of best.h5, the guard of step-5.h5
    SCOPED_TRACE(part);
    fs::remove_all(project / "run");
    const ProgramResult result =
        project.train_within(kJobSeconds, "run", to_the_end(1).with(concat("--fault=fail@file-damage:", part)));
    expect_refused(result, {project / "run/checkpoints", ": not written: "});
    for (const std::string& file : entries_in(project / "run/checkpoints")) {
      EXPECT_TRUE(file.ends_with(".h5")) << file;
      EXPECT_NO_THROW(read_checkpoint(project / ("run/checkpoints/" + file)));
    }
    project.expect_resumes_like_whole("run", 1);
  }
}

/// Between two saves, the second of which waits for the first, and at the end of a run.
TEST(faults, a_write_longer_than_the_deadline_is_waited_for) {
  for (const int end : {kLastStep, 3}) {
    SCOPED_TRACE(end);
    const SmallProject project;
    TrainCall call = to_the_end(2);
    call.settings.front() = concat("train.max_steps=", end);
    project.expect_train("whole", call);
    const ProgramResult result =
        project.train_within(kJobSeconds, "run", call.with("--fault=slow@file-sync:2,rank=0").with("--deadline=3"));
    EXPECT_TRUE(result.succeeded()) << result.describe();
    EXPECT_GE(result.seconds, 6) << "nothing was slow";
    project.expect_like_whole("run", end);
  }
}

TEST(faults, kill_while_old_checkpoints_are_removed) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  for (const int removal : {1, 2, 3}) {  // of step-3.h5 at step 6, step-5.h5 at 9, step-6.h5 at 10
    SCOPED_TRACE(removal);
    fs::remove_all(project / "run");
    const ProgramResult result =
        project.train_within(kJobSeconds, "run", to_the_end(1).with(concat("--fault=kill@prune:", removal)));
    EXPECT_EQ(result.signal, SIGKILL) << result.describe();
    EXPECT_EQ(entries_in(project / "run/checkpoints").size(), 4u) << "the best, two to keep and one to remove";
    project.expect_resumes_like_whole("run", 1);
  }
}

TEST(faults, an_old_checkpoint_that_cannot_be_removed_costs_nothing_but_space) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  project.expect_train("run", to_the_end(1).with("--fault=fail@prune:1"));
  project.expect_like_whole("run");  // a later save removes it
}

/// Trains as `prelude`, a part of a command line, has it, whatever becomes of that within kJobSeconds.
ProgramResult train_under(const Strings& prelude, const SmallProject& project, const std::string& run,
                          const TrainCall& call) {
  Strings command = prelude;
  if (call.ranks > 1) {
    command.insert(command.end(), {path_of_mpirun(), "--oversubscribe", "-np", std::to_string(call.ranks)});
  }
  command.push_back(path_of_quadmamba());
  const Strings arguments = project.train_arguments(run, call);
  command.insert(command.end(), arguments.begin(), arguments.end());
  const Strings environment{"OMP_NUM_THREADS=1", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};
  const ProgramResult result =
      run_program(command, {.environment = environment, .timeout_seconds = 2 * kJobSeconds, .folder = {}});
  EXPECT_LE(result.seconds, kJobSeconds) << result.describe();
  return result;
}

/// A part of a command line: no file that the rest writes can outgrow so many KiB.
Strings with_files_up_to(int kibibytes) {
  return {"bash", "-c", concat("ulimit -f ", kibibytes, R"(; exec "$@")"), "bash"};
}

TEST(faults, a_full_disk_is_named) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  // A checkpoint has 3.6 MB.
  const ProgramResult result = train_under(with_files_up_to(1000), project, "run", to_the_end(1));
  expect_refused(result, {project.checkpoint("run", 3) + ": cannot write: File too large"});
  project.expect_resumes_like_whole("run", 1);
}

TEST(faults, a_list_of_samples_that_cannot_be_written_ends_the_run) {
  const SmallProject project;
  // 24 samples a step fill 8 KiB before anything else is written but the recipe, which is shorter.
  const TrainCall call{
      .settings = {"train.max_steps=50", "train.log_every=50", "eval.every_epochs=0", "checkpoint.every_epochs=0"},
      .options = {"--log-samples"}};
  const ProgramResult result = train_under(with_files_up_to(8), project, "run", call);
  expect_refused(result, {project / "run/samples-0.txt" + ": cannot be written (disk full?)"});
  EXPECT_EQ(fs::file_size(project / "run/samples-0.txt"), 8u * 1024);
  EXPECT_EQ(entries_in(project / "run/checkpoints"), Strings{});
}

TEST(faults, metrics_that_cannot_be_written_end_the_run) {
  const SmallProject project;
  const TrainCall call{.resume = true,
                       .settings = {"train.max_steps=50", "eval.every_epochs=0", "checkpoint.every_epochs=0"}};
  project.expect_train("whole", call);
  const ProgramResult result = train_under(with_files_up_to(8), project, "run", call);
  expect_refused(result, {project / "run/metrics.jsonl" + ": cannot be written (disk full?)"});
  project.expect_train("run", call);
  project.expect_like_whole("run", 50);
}

TEST(faults, a_full_disk_under_mpirun_ends_the_job) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(2));
  const ProgramResult result =
      project.train_within(kJobSeconds, "run", to_the_end(2).with("--fault=fail@file-write:4"));
  EXPECT_FALSE(result.succeeded());
  expect_said(result, concat("quadmamba [rank 0]: ", project / "run/checkpoints/"));
  project.expect_resumes_like_whole("run", 2);
}

/// A run was stopped after step 4; then `locked`, a part of the project's folder, is: a folder to writers, a file to
/// all.
void expect_named_and_survived(int ranks, const std::string& locked, const std::string& cause) {
  SCOPED_TRACE(concat(locked, " on ", ranks));
  const SmallProject project;
  project.expect_train("whole", to_the_end(ranks));
  project.train("run", to_the_end(ranks).with("--fault=term@step:4"));
  ASSERT_TRUE(fs::exists(project.checkpoint("run", 4)));
  const std::string place = project / locked;
  fs::permissions(place, fs::is_directory(place) ? fs::perms::owner_read | fs::perms::owner_exec : fs::perms::none);
  // Root ignores permissions unless it gives that right away.
  Strings unprivileged{"setpriv", "--bounding-set=-dac_override,-dac_read_search",
                       "--inh-caps=-dac_override,-dac_read_search"};
  if (geteuid() != 0) unprivileged = {"env"};
  const ProgramResult result = train_under(unprivileged, project, "run", to_the_end(ranks));
  fs::permissions(place, fs::perms::owner_all);
  expect_refused(result, {place, cause});
  if (ranks > 1) {
    EXPECT_TRUE(error_lines(result).front().starts_with("quadmamba [rank 0]: ")) << result.describe();
  }
  project.expect_resumes_like_whole("run", ranks);
}

TEST(faults, a_read_only_folder_is_named) {
  expect_named_and_survived(1, "run/checkpoints", "cannot create: Permission denied");
}

TEST(faults, a_read_only_folder_is_named_on_two_ranks) {
  expect_named_and_survived(2, "run/checkpoints", "cannot create: Permission denied");
  expect_named_and_survived(2, "run", "recipe.toml: cannot create: Permission denied");
}

TEST(faults, a_checkpoint_that_may_not_be_read_is_named) {
  expect_named_and_survived(1, "run/checkpoints/step-00000004.h5", "cannot open: Permission denied; nothing older");
}

TEST(faults, a_flipped_byte_anywhere_in_the_newest_checkpoint_is_passed_over) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  TrainCall first = to_the_end(1);
  first.settings.front() = "train.max_steps=10";
  project.expect_train("run", first);
  const std::string newest = project.checkpoint("run", 10), best = project / "run/checkpoints/best.h5";
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
      EXPECT_EQ(found->path, best) << "byte " << place;
    }
  }
  fs::resize_file(best, 600);
  const ProgramResult result = project.train_within(kJobSeconds, "run", to_the_end(1));
  for (const std::string& damaged : {newest, best}) expect_said(result, concat("passed over: ", damaged, ": damaged"));
  expect_said(result, concat("resuming from ", project.checkpoint("run", 9)));
  project.expect_like_whole("run");
}

TEST(faults, specs_that_mean_nothing_are_refused) {
  const SmallProject project;
  for (const char* spec :
       {"kill", "kill@nowhere", "explode@step", "kill@step:0", "kill@step:x", "kill@step:", "kill@step:1,rank="}) {
    expect_refused(project.train("run", TrainCall{}.with(concat("--fault=", spec))), {concat("fault '", spec, "'")});
  }
}

}  // namespace
}  // namespace qm
