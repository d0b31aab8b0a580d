// A signal ends every loop soon, with everything saved and exit code 75; the launchers hand signals on.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

constexpr int kSaved = 75;
constexpr double kDeadline = 60;

TrainCall to_step_12(int ranks, const Strings& options = {}) {
  return {.ranks = ranks, .resume = true, .settings = {"train.max_steps=12"}, .options = options};
}

void expect_stopped(const ProgramResult& result, const std::string& signal) {
  EXPECT_EQ(result.exit_code, kSaved) << result.describe();
  EXPECT_FALSE(result.timed_out);
  EXPECT_NE(result.error.find("stopped by " + signal), std::string::npos) << result.describe();
}

void expect_like_whole(const SmallProject& project, const std::string& run) {
  EXPECT_EQ(project.hash(project.checkpoint(run, 12)), project.hash(project.checkpoint("whole", 12)));
  EXPECT_EQ(project.record(run), project.record("whole"));
}

/// One rank of two gets TERM at that point; the job ends with 75 and the checkpoint of `step`; a resumed run ends like
/// one that was left alone.
void expect_stops_and_resumes(const std::string& point, int step) {
  const SmallProject project;
  project.expect_train("whole", to_step_12(2));
  const ProgramResult result = project.train("run", to_step_12(2, {concat("--fault=term@", point, ",rank=1")}));
  expect_stopped(result, "SIGTERM");
  if (step > 0) {
    EXPECT_TRUE(fs::exists(project.checkpoint("run", step)));
  }
  project.expect_train("run", to_step_12(2));
  expect_like_whole(project, "run");
}

TEST(faults, term_while_training) {
  expect_stops_and_resumes("step:4", 4);
}

TEST(faults, term_in_the_first_evaluation) {
  expect_stops_and_resumes("evaluate:1", 5);
}

TEST(faults, term_between_the_evaluations_of_two_weights) {
  expect_stops_and_resumes("evaluate:2", 5);  // of a rank's 11 or 12 images a batch: the EMA's
}

TEST(faults, term_in_the_last_evaluation) {
  expect_stops_and_resumes("evaluate:6", 12);
}

TEST(faults, term_at_the_start) {
  expect_stops_and_resumes("start", 0);
}

TEST(faults, term_in_eval) {
  const SmallProject project;
  project.expect_train("whole", to_step_12(1));
  for (const int ranks : {1, 2}) {
    expect_stopped(run_on_ranks(ranks, {"eval", "--checkpoint", project.checkpoint("whole", 12), "--data",
                                        project.data(), "--fault=term@evaluate:1,rank=0", "--set=eval.batch=4"}),
                   "SIGTERM");
  }
}

TEST(faults, term_while_packing_leaves_nothing_and_packs_the_same_later) {
  const SmallProject project;
  const auto pack_to = [&](const std::string& folder, const Strings& more) {
    Strings arguments{"pack",           "--input",  project / "images/train",
                      "--split",        "train",    "--output",
                      project / folder, "--shards", "2",
                      "--threads",      "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_quadmamba(arguments);
  };
  expect_stopped(pack_to("stopped", {"--fault=term@pack:2"}), "SIGTERM");
  EXPECT_EQ(entries_in(project / "stopped"), Strings{});
  EXPECT_TRUE(pack_to("stopped", {}).succeeded());
  for (const std::string& shard : entries_in(project / "stopped")) {
    EXPECT_EQ(bytes_of_file(project / ("stopped/" + shard)), bytes_of_file(project / ("shards/" + shard))) << shard;
  }
}

// ---- launchers
// -------------------------------------------------------------------------------------------------------

/// Runs launch/<script> in the background, waits until `run` has logged a step, and runs `then`, in which $launcher is
/// the script's process.
ProgramResult run_launcher(const SmallProject& project, const std::string& script, const Strings& arguments,
                           const std::string& run, const std::string& then, const Strings& environment = {}) {
  const std::string wait_for_a_step = R"(
    metrics=$1; shift
    env --default-signal=INT "$@" & launcher=$!  # a shell starts what is in the background with INT ignored
    until [[ -s $metrics ]] || ! kill -0 $launcher 2>/dev/null; do sleep 0.02; done
  )";
  Strings command{"bash",
                  "-c",
                  wait_for_a_step + then + "\nwait $launcher",
                  "bash",
                  project / (run + "/metrics.jsonl"),
                  QM_SOURCE_DIR "/launch/" + script};
  command.insert(command.end(), arguments.begin(), arguments.end());
  Strings all{"OMP_NUM_THREADS=1", "QM_PROGRAM=" QM_PROGRAM, "QM_MPIRUN=" QM_MPIEXEC};
  all.insert(all.end(), environment.begin(), environment.end());
  return run_program(command, {.environment = all, .timeout_seconds = kDeadline, .folder = {}});
}

Strings endless_arguments(const SmallProject& project, const std::string& run, const Strings& options = {}) {
  Strings arguments{project.recipe(), "--data", project.data(), "--run", project / run, "--set=train.epochs=100000"};
  arguments.insert(arguments.end(), options.begin(), options.end());
  return arguments;
}

ProgramResult run_train_sh(const SmallProject& project, const std::string& run, const std::string& then,
                           const Strings& options = {}) {
  Strings arguments = endless_arguments(project, run, options);
  arguments.insert(arguments.begin(), "2");
  return run_launcher(project, "train.sh", arguments, run, then);
}

TEST(faults, the_launcher_turns_signals_into_a_saved_run) {
  const SmallProject project;
  for (const char* signal : {"TERM", "INT", "USR1", "USR2"}) {
    SCOPED_TRACE(signal);
    const ProgramResult result = run_train_sh(project, signal, concat("kill -", signal, " $launcher"));
    expect_stopped(result, "SIGUSR1");
    EXPECT_NE(result.out.find("saved " + project / concat(signal, "/checkpoints/step-")), std::string::npos)
        << result.describe();
  }
}

TEST(faults, an_interrupt_from_a_terminal_is_a_saved_run) {
  const SmallProject project;
  // As a terminal does it: INT to every process of the foreground's group, mpirun's launcher and all.
  const ProgramResult result = run_train_sh(project, "run", "trap '' INT; kill -INT -- -$$");
  expect_stopped(result, "SIGUSR1");
}

TEST(faults, a_second_signal_ends_at_once) {
  const SmallProject project;
  // A rank frozen after its second step, so that the other would wait its 600 s.
  const ProgramResult result = run_train_sh(project, "run",
                                            R"(until (( $(wc -l < $metrics) >= 2 )); do sleep 0.05; done
                                               sleep 1.5; kill -TERM $launcher; sleep 1.5; kill -TERM $launcher)",
                                            {"--fault=stop@step:3,rank=1"});
  EXPECT_EQ(result.exit_code, 128 + 10) << result.describe();  // SIGUSR1, which the launcher makes of TERM
}

TEST(faults, the_launcher_passes_exit_codes_on) {
  const SmallProject project;
  Strings arguments{"2", project.recipe(), "--data", project / "nowhere", "--run", project / "run"};
  EXPECT_EQ(run_launcher(project, "train.sh", arguments, "run", "").exit_code, 1);
  arguments = {"1", project.recipe(), "--data", project.data(), "--run", project / "run", "--set=train.max_steps=1"};
  EXPECT_EQ(run_launcher(project, "train.sh", arguments, "run", "").exit_code, 0);
  EXPECT_EQ(run_launcher(project, "train.sh", {"many"}, "run", "").exit_code, 2);
}

TEST(faults, the_slurm_job_puts_itself_back_into_the_queue) {
  const SmallProject project;
  // Slurm's programs, as far as the script uses them. The real srun hands signals on as exec does.
  const std::string bin = project / "bin";
  fs::create_directory(bin);
  std::ofstream(bin + "/srun") << "#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec \"$@\"\n";
  std::ofstream(bin + "/scontrol") << "#!/bin/bash\necho \"scontrol $*\"\n";
  for (const char* program : {"/srun", "/scontrol"}) fs::permissions(bin + program, fs::perms::owner_all);
  const ProgramResult result =
      run_launcher(project, "slurm.sh", endless_arguments(project, "run"), "run", "kill -USR1 $launcher",
                   {concat("PATH=", bin, ":", std::getenv("PATH")), "SLURM_JOB_ID=77"});
  expect_stopped(result, "SIGUSR1");
  EXPECT_NE(result.out.find("scontrol requeue 77"), std::string::npos) << result.describe();
}

}  // namespace
}  // namespace qm
