// A signal ends every loop soon, with everything saved and exit code 75; the launchers hand signals on.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

namespace fs = std::filesystem;

constexpr int kSaved = 75;

struct Signal {
  const char* action;  ///< of --fault
  const char* name;
};
using Signals = std::vector<Signal>;
constexpr Signal kTerm{"term", "SIGTERM"}, kInt{"int", "SIGINT"}, kHup{"hup", "SIGHUP"}, kUsr1{"usr1", "SIGUSR1"},
    kUsr2{"usr2", "SIGUSR2"};
const Signals kAll{kTerm, kInt, kHup, kUsr1, kUsr2};

void expect_stopped(const ProgramResult& result, const std::string& signal) {
  EXPECT_EQ(result.exit_code, kSaved) << result.describe();
  EXPECT_LE(result.seconds, kJobSeconds);
  EXPECT_NE(result.error.find("stopped by " + signal), std::string::npos) << result.describe();
}

// ---- training, from its start to its end ----------------------------------------------------------------------------

/// One rank of two gets each of the signals in turn at that point; the job ends with 75 and the checkpoint of `step`,
/// if it is not 0; a resumed run ends like one that was left alone. `start`: where the run stands before, a step.
void expect_stops_and_resumes(const Signals& signals, const std::string& point, int step, int start = 0) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(2));
  for (const auto& [action, name] : signals) {
    SCOPED_TRACE(concat(action, "@", point));
    fs::remove_all(project / "run");
    if (start > 0) {
      TrainCall before = to_the_end(2);
      before.settings.front() = concat("train.max_steps=", start);
      project.expect_train("run", before);
    }
    const TrainCall call = to_the_end(2).with(concat("--fault=", action, "@", point, ",rank=1"));
    expect_stopped(project.train_within(kJobSeconds, "run", call), name);
    if (step > 0) {
      EXPECT_TRUE(fs::exists(project.checkpoint("run", step)));
    }
    project.expect_resumes_like_whole("run", 2);
  }
}

TEST(faults, signals_while_training) {
  expect_stops_and_resumes(kAll, "step:4", 4);
}

TEST(faults, signals_in_the_first_evaluation) {
  expect_stops_and_resumes({kTerm, kUsr2}, "evaluate:1", 5);
}

TEST(faults, signals_between_the_evaluations_of_two_weights) {
  expect_stops_and_resumes({kUsr1}, "evaluate:2", 5);  // of a rank's 11 or 12 images a batch: the EMA's
}

TEST(faults, signals_in_the_last_evaluation) {
  expect_stops_and_resumes({kInt}, "evaluate:6", 12);
}

/// Of two ranks one waits for the other in MPI's start when it gets the signal.
TEST(faults, signals_while_mpi_starts) {
  const SmallProject project;
  const std::string script =
      R"(if [[ $OMPI_COMM_WORLD_RANK == 0 ]]; then (sleep 1.5; kill -TERM $$) & else sleep 3; fi; exec "$@")";
  expect_stopped(project.train_through(script, "run", to_the_end(2)), "SIGTERM");
  EXPECT_FALSE(fs::exists(project / "run")) << "it was begun";
}

TEST(faults, signals_while_the_index_is_read) {
  expect_stops_and_resumes({kTerm}, "index:1", 0);
  expect_stops_and_resumes({kUsr2}, "index:2", 5, 5);
}

TEST(faults, signals_in_the_middle_of_the_index_end_its_reading) {
  const SmallProject project;
  TrainCall short_run = to_the_end(2);
  short_run.settings.front() = "train.max_steps=2";
  project.expect_train("run", short_run);
  fs::resize_file(project.data() + "/val-00001-of-00002.h5", 600);  // who reads on finds that it is damaged
  for (const int ranks : {1, 2}) {
    // The training set has two shards.
    expect_stopped(project.train_within(kJobSeconds, "run", to_the_end(ranks).with("--fault=term@shard:4")), "SIGTERM");
    expect_stopped(run_on_ranks(ranks, {"eval", "--checkpoint", project.checkpoint("run", 2), "--data", project.data(),
                                        "--fault=term@shard:2"}),
                   "SIGTERM");
  }
}

/// One rank is signalled, the other reads to the end before it hears of that.
TEST(faults, signals_in_the_index_of_one_rank_end_all) {
  const SmallProject project;
  const TrainCall call = to_the_end(2).with("--fault=term@shard:1,rank=1");
  expect_stopped(project.train_within(kJobSeconds, "run", call), "SIGTERM");
}

TEST(faults, signals_before_the_first_step) {
  expect_stops_and_resumes({kTerm}, "start", 0);
}

/// Only rank 0 reads weights.
TEST(faults, signals_while_weights_are_loaded) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(2));
  TrainCall before = to_the_end(2);
  before.settings.front() = "train.max_steps=5";
  project.expect_train("run", before);
  const std::vector<std::string> record = project.record("run");
  for (const auto& [action, name] : {kTerm, kUsr1}) {
    SCOPED_TRACE(action);
    const TrainCall call = to_the_end(2).with(concat("--fault=", action, "@load,rank=0"));
    const ProgramResult result = project.train_within(kJobSeconds, "run", call);
    expect_stopped(result, name);
    EXPECT_EQ(result.out.find("global batch"), std::string::npos) << "it began to train: " << result.describe();
    EXPECT_EQ(project.record("run"), record);
  }
  const std::string weights = project.checkpoint("run", 5);
  const TrainCall from_weights = to_the_end(2).with("--init=" + weights).with("--fault=term@load,rank=0");
  expect_stopped(project.train_within(kJobSeconds, "initialised", from_weights), "SIGTERM");
  EXPECT_EQ(entries_in(project / "initialised/checkpoints"), Strings{});
  project.expect_resumes_like_whole("run", 2);
}

// ---- other loops ----------------------------------------------------------------------------------------------------

TEST(faults, signals_in_eval) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  const auto evaluate = [&](int ranks, const Signal& signal, const std::string& point) {
    const std::string fault = concat("--fault=", signal.action, "@", point, ",rank=0");
    SCOPED_TRACE(concat(fault, " of ", ranks));
    expect_stopped(run_on_ranks(ranks, {"eval", "--checkpoint", project.checkpoint("whole", kLastStep), "--data",
                                        project.data(), fault, "--set=eval.batch=4"}),
                   signal.name);
  };
  for (const Signal& signal : kAll) evaluate(1, signal, "evaluate:2");
  evaluate(2, kUsr1, "evaluate:2");
  evaluate(2, kTerm, "load");
}

TEST(faults, signals_while_packing_leave_nothing_and_it_packs_the_same_later) {
  const SmallProject project;
  const auto pack_to = [&](const std::string& folder, const Strings& more) {
    Strings arguments{"pack",           "--input",  project / "images/train",
                      "--split",        "train",    "--output",
                      project / folder, "--shards", "2",
                      "--threads",      "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_quadmamba(arguments);
  };
  for (const auto& [action, name] : kAll) {
    SCOPED_TRACE(action);
    for (const char* point : {"index", "pack:2"}) {
      const ProgramResult result = pack_to(action, {concat("--fault=", action, "@", point)});
      expect_stopped(result, name);
      EXPECT_EQ(result.out.find("skipped"), std::string::npos) << "it came to its report: " << result.describe();
      EXPECT_EQ(entries_in(project / action), Strings{});
    }
    EXPECT_TRUE(pack_to(action, {}).succeeded());
    for (const std::string& shard : entries_in(project / "shards")) {
      if (!shard.starts_with("train")) continue;
      EXPECT_EQ(bytes_of_file(project / concat(action, "/", shard)), bytes_of_file(project / ("shards/" + shard)));
    }
  }
}

// ---- more than one signal -------------------------------------------------------------------------------------------

/// Runs `command` in the background, waits until `metrics` holds a step, and runs `then`, a piece of bash, in which
/// $launcher is the command's process.
ProgramResult run_in_background(const Strings& command, const std::string& metrics, const std::string& then,
                                const Strings& environment) {
  const std::string wait_for_a_step = R"(
    metrics=$1; shift
    env --default-signal=INT "$@" & launcher=$!  # a shell starts what is in the background with INT ignored
    until [[ -s $metrics ]] || ! kill -0 $launcher 2>/dev/null; do sleep 0.02; done
  )";
  Strings whole{"bash", "-c", wait_for_a_step + then + "\nwait $launcher", "bash", metrics};
  whole.insert(whole.end(), command.begin(), command.end());
  return run_program(whole, {.environment = environment, .timeout_seconds = kJobSeconds, .folder = {}});
}

/// One rank that logs its first step and then takes 6 s before its second, in which it cannot look for signals.
ProgramResult run_slowly(const SmallProject& project, const std::string& run, const std::string& then) {
  Strings command{path_of_quadmamba()};
  const Strings arguments = project.train_arguments(run, to_the_end(1).with("--fault=slow@step:2"));
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run_in_background(command, project / (run + "/metrics.jsonl"), then, {"OMP_NUM_THREADS=1"});
}

TEST(faults, signals_within_half_a_second_are_one) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(1));
  const ProgramResult result =
      run_slowly(project, "run", "for s in TERM USR1 TERM INT USR2; do kill -$s $launcher; done");
  expect_stopped(result, "SIG");
  EXPECT_GE(result.seconds, 6) << result.describe();
  EXPECT_TRUE(fs::exists(project.checkpoint("run", 2)));
  project.expect_resumes_like_whole("run", 1);
}

TEST(faults, a_second_signal_later_ends_the_process_at_once) {
  const SmallProject project;
  for (const auto& [name, number] : {std::pair("TERM", SIGTERM), std::pair("INT", SIGINT), std::pair("HUP", SIGHUP),
                                     std::pair("USR1", SIGUSR1), std::pair("USR2", SIGUSR2)}) {
    SCOPED_TRACE(name);
    const ProgramResult result =
        run_slowly(project, name, concat("kill -TERM $launcher; sleep 0.8; kill -", name, " $launcher"));
    EXPECT_EQ(result.exit_code, 128 + number) << result.describe();  // 75 where it waited for the step
    EXPECT_LE(result.seconds, kJobSeconds);
  }
}

/// As `scontrol suspend` and `scontrol resume` do it. Rank 1 waits for rank 0 meanwhile.
TEST(faults, a_job_that_is_suspended_for_longer_than_its_deadline_goes_on) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(2));
  Strings command{path_of_mpirun(), "--oversubscribe", "-np", "2", path_of_quadmamba()};
  const Strings arguments =
      project.train_arguments("run", to_the_end(2).with("--fault=slow@step:3,rank=0").with("--deadline=8"));
  command.insert(command.end(), arguments.begin(), arguments.end());
  const ProgramResult result =
      run_in_background(command, project / "run/metrics.jsonl", R"(
        until (( $(wc -l < $metrics) >= 2 )); do sleep 0.05; done
        sleep 2
        job=($launcher $(< /proc/$launcher/task/$launcher/children))
        kill -STOP ${job[@]}
        sleep 10
        kill -CONT ${job[@]})",
                        {"OMP_NUM_THREADS=1", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"});
  EXPECT_TRUE(result.succeeded()) << result.describe();
  EXPECT_GE(result.seconds, 12) << "nothing was suspended";
  project.expect_like_whole("run");
}

// ---- launchers ------------------------------------------------------------------------------------------------------

/// Runs launch/<script> as run_in_background() does, `then` as soon as the file `awaited` holds something.
ProgramResult run_launcher(const std::string& script, const Strings& arguments, const std::string& awaited,
                           const std::string& then, const Strings& environment = {}) {
  Strings command{QM_SOURCE_DIR "/launch/" + script};
  command.insert(command.end(), arguments.begin(), arguments.end());
  Strings all{"OMP_NUM_THREADS=1", "QM_PROGRAM=" + path_of_quadmamba(), "QM_MPIRUN=" + path_of_mpirun()};
  all.insert(all.end(), environment.begin(), environment.end());
  return run_in_background(command, awaited, then, all);
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
  return run_launcher("train.sh", arguments, project / (run + "/metrics.jsonl"), then);
}

TEST(faults, the_launcher_turns_signals_into_a_saved_run) {
  const SmallProject project;
  for (const char* signal : {"TERM", "INT", "HUP", "USR1", "USR2"}) {
    SCOPED_TRACE(signal);
    const ProgramResult result = run_train_sh(project, signal, concat("kill -", signal, " $launcher"));
    expect_stopped(result, "SIGUSR1");
    EXPECT_NE(result.out.find("saved " + project / concat(signal, "/checkpoints/step-")), std::string::npos)
        << result.describe();
  }
}

TEST(faults, signals_while_the_launcher_starts_the_job_are_taken_up_later) {
  const SmallProject project;
  const std::string until_it_catches_term =
      R"(until (( 0x0$(sed -n 's/^SigCgt:\t//p' /proc/$launcher/status) >> 14 & 1 )); do sleep 0.005; done; )";
  // From there over mpirun's start and the ranks' into training.
  for (const char* delay : {"0", "0.02", "0.05", "0.08", "0.1", "0.12", "0.15", "0.2", "0.25", "0.3", "0.4"}) {
    SCOPED_TRACE(delay);
    Strings arguments = endless_arguments(project, concat("run-", delay));
    arguments.insert(arguments.begin(), "2");
    const std::string there_already = project.recipe();
    expect_stopped(run_launcher("train.sh", arguments, there_already,
                                concat(until_it_catches_term, "sleep ", delay, "; kill -TERM $launcher")),
                   "SIGUSR1");
  }
}

/// TERM to launcher, mpirun and ranks alike, as a cgroup's end or `scancel --full` sends it: mpirun then kills the
/// ranks within two seconds.
constexpr const char* kTermToAll = R"(
    mpirun=$(< /proc/$launcher/task/$launcher/children)
    kill -TERM $launcher $mpirun $(< /proc/${mpirun// /}/task/${mpirun// /}/children))";

TEST(faults, a_signal_to_the_whole_job_is_a_saved_run_where_that_takes_no_longer_than_mpirun_waits) {
  const SmallProject project;
  expect_stopped(run_train_sh(project, "run", kTermToAll), "SIG");
}

/// A rank that left before the last has saved would take the job with it.
TEST(faults, a_signal_during_a_long_write_ends_the_job_when_all_is_saved) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(2));
  Strings arguments = project.train_arguments("run", to_the_end(2).with("--fault=slow@file-sync:2,rank=0"));
  arguments.front() = "2";
  const ProgramResult result =
      run_launcher("train.sh", arguments, project / "run/checkpoints/step-00000003.h5.tmp", "kill -TERM $launcher");
  expect_stopped(result, "SIGUSR1");
  EXPECT_GE(result.seconds, 6) << "nothing was slow";
  expect_said(result, "saved " + project.checkpoint("run", 3));
  const auto last = static_cast<int>(project.metrics("run", "train").back().number("step"));
  EXPECT_TRUE(fs::exists(project.checkpoint("run", last))) << "step " << last << ": " << result.describe();
  project.expect_resumes_like_whole("run", 2);
}

TEST(faults, a_signal_to_the_whole_job_during_a_long_write_costs_steps_and_not_the_run) {
  const SmallProject project;
  project.expect_train("whole", to_the_end(2));
  Strings arguments = project.train_arguments("run", to_the_end(2).with("--fault=slow@file-sync:2,rank=0"));
  arguments.front() = "2";
  const ProgramResult result = run_launcher("train.sh", arguments, project / "run/checkpoints/step-00000003.h5.tmp",
                                            std::string("sleep 0.5") + kTermToAll);
  EXPECT_EQ(result.exit_code, 128 + SIGTERM) << result.describe();
  expect_said(result, "train.sh: mpirun got a signal too and ended the job before it had saved");
  EXPECT_FALSE(fs::exists(project.checkpoint("run", 3))) << "nothing was slow";
  project.expect_resumes_like_whole("run", 2);
}

TEST(faults, a_run_under_nohup_goes_on_without_its_terminal) {
  const SmallProject project;
  Strings command{"env", "--ignore-signal=HUP", path_of_quadmamba()};
  for (const std::string& each : project.train_arguments("run", to_the_end(1).with("--fault=hup@step:2"))) {
    command.push_back(each);
  }
  const ProgramResult result = run_program(command);
  EXPECT_TRUE(result.succeeded()) << result.describe();
}

TEST(faults, an_interrupt_from_a_terminal_is_a_saved_run) {
  const SmallProject project;
  // As a terminal does it: INT to every process of the foreground's group, mpirun's launcher and all.
  const ProgramResult result = run_train_sh(project, "run", "trap '' INT; kill -INT -- -$$");
  expect_stopped(result, "SIGUSR1");
}

TEST(faults, a_second_signal_to_the_launcher_ends_the_job_at_once) {
  const SmallProject project;
  // A rank frozen after its second step, so that the other would wait its 600 s.
  const ProgramResult result = run_train_sh(project, "run",
                                            R"(until (( $(wc -l < $metrics) >= 2 )); do sleep 0.05; done
                                               sleep 1.5; kill -TERM $launcher; sleep 1.5; kill -TERM $launcher)",
                                            {"--fault=stop@step:3,rank=1"});
  EXPECT_EQ(result.exit_code, 128 + SIGUSR1) << result.describe();  // the launcher makes that of TERM
  EXPECT_LE(result.seconds, kJobSeconds);
}

/// An executable script of bash.
void write_script(const std::string& path, const std::string& text) {
  std::ofstream(path) << "#!/bin/bash\n" << text << "\n";
  fs::permissions(path, fs::perms::owner_all);
}

/// mpirun's own code, 1, says nothing of the ranks where it was signalled.
TEST(faults, the_launcher_reads_what_the_ranks_said_in_any_order) {
  const TemporaryFolder folder;
  const std::string mpirun = folder / "mpirun";
  for (const auto& [lines, code] : std::vector<std::pair<std::string, int>>{{"started\\n1", 1},
                                                                            {"1\\nstarted", 1},
                                                                            {"started\\n0", 1},
                                                                            {"1", 1},
                                                                            {"started\\n75", 75},
                                                                            {"75\\n1", 75},
                                                                            {"started", 128 + SIGTERM}}) {
    SCOPED_TRACE(lines);
    write_script(mpirun, concat("printf '", lines, "\\n' > $QM_STATUS_FILE; exit 1"));
    const ProgramResult result = run_launcher("train.sh", {"2", "recipe.toml"}, mpirun, "", {"QM_MPIRUN=" + mpirun});
    EXPECT_EQ(result.exit_code, code) << result.describe();
    EXPECT_EQ(result.error.find("mpirun got a signal too") != std::string::npos, code == 128 + SIGTERM);
  }
}

TEST(faults, the_launcher_passes_exit_codes_on) {
  const SmallProject project;
  Strings arguments{"2", project.recipe(), "--data", project / "nowhere", "--run", project / "run"};
  const auto run = [&](const Strings& more = {}) {
    return run_launcher("train.sh", arguments, project.recipe(), "", more);
  };
  const auto exit_code = [&] { return run().exit_code; };
  expect_refused(run(), {project / "nowhere"});  // by the program, not for want of it
  arguments = {"1", project.recipe(), "--data", project.data(), "--run", project / "run", "--set=train.max_steps=1"};
  EXPECT_EQ(exit_code(), 0);
  const ProgramResult without_mpirun = run({"QM_MPIRUN=/nowhere"});
  EXPECT_EQ(without_mpirun.exit_code, 1);
  EXPECT_EQ(without_mpirun.error,
            "train.sh: /nowhere: not found; QM_MPIRUN and QM_PROGRAM name mpirun and the program\n");
  arguments.push_back("--fault=kill@start");
  EXPECT_EQ(exit_code(), 128 + SIGKILL);
  arguments = {"1", project.recipe(), "--nonsense"};
  EXPECT_EQ(exit_code(), 2);
  arguments = {"many"};
  EXPECT_EQ(exit_code(), 2);
}

TEST(faults, the_launcher_finds_its_parts_through_a_link) {
  const TemporaryFolder folder;
  const std::string link = folder / "train.sh";
  fs::create_symlink(QM_SOURCE_DIR "/launch/train.sh", link);
  const ProgramResult result =
      run_program({link, "1", "recipe.toml"}, {.environment = {"QM_MPIRUN=/nowhere"}, .folder = {}});
  EXPECT_EQ(result.error, "train.sh: /nowhere: not found; QM_MPIRUN and QM_PROGRAM name mpirun and the program\n");
}

TEST(faults, a_second_signal_while_the_launcher_starts_the_job_ends_it_at_once) {
  const SmallProject project;
  const std::string program = project / "never-starts", there = project / "there";
  write_script(program, concat("echo there > ", there, "; exec sleep 100"));
  const ProgramResult result =
      run_launcher("train.sh", {"1", project.recipe()}, there, "kill -TERM $launcher; sleep 2.5; kill -TERM $launcher",
                   {"QM_PROGRAM=" + program});
  EXPECT_EQ(result.exit_code, 128 + SIGUSR1) << result.describe();
  EXPECT_LE(result.seconds, kJobSeconds);
}

TEST(faults, the_slurm_job_puts_itself_back_into_the_queue) {
  const SmallProject project;
  // Slurm's programs, as far as the script uses them. The real srun hands signals on as exec does.
  const std::string bin = project / "bin";
  fs::create_directory(bin);
  write_script(bin + "/srun", "while [[ $1 == --* ]]; do shift; done; exec \"$@\"");
  write_script(bin + "/scontrol", "echo \"scontrol $*\"");
  const ProgramResult result = run_launcher(
      "slurm.sh", endless_arguments(project, "run"), project / "run/metrics.jsonl", "kill -USR1 $launcher",
      {concat("PATH=", bin, ":", std::getenv("PATH")), "SLURM_JOB_ID=77", "QM_LAUNCH=" QM_SOURCE_DIR "/launch",
       "SLURM_SUBMIT_DIR=" + fs::path(project.recipe()).parent_path().string()});
  expect_stopped(result, "SIGUSR1");
  EXPECT_NE(result.out.find("scontrol requeue 77"), std::string::npos) << result.describe();
}

/// Runs launch/slurm.sh in `folder` with a srun that is the piece of bash.
ProgramResult run_slurm_sh(const std::string& folder, const std::string& srun, const Strings& environment = {}) {
  const std::string bin = folder + "/bin";
  fs::create_directory(bin);
  write_script(bin + "/srun", srun);
  write_script(bin + "/scontrol", "echo \"scontrol $*\"");
  Strings all{concat("PATH=", bin, ":", std::getenv("PATH")), "SLURM_JOB_ID=77", "QM_LAUNCH=" QM_SOURCE_DIR "/launch",
              "SLURM_SUBMIT_DIR=" + folder};
  all.insert(all.end(), environment.begin(), environment.end());
  return run_launcher("slurm.sh", {"recipe.toml"}, bin + "/srun", "", all);
}

/// --kill-on-bad-exit takes 75 for a bad exit.
TEST(faults, a_saved_slurm_job_is_requeued_whatever_srun_says) {
  for (const auto& [told, code] : std::vector<std::pair<int, int>>{{75, kSaved}, {1, 137}}) {
    const TemporaryFolder folder;
    const ProgramResult result =
        run_slurm_sh(folder.path().string(), concat("printf 'started\\n", told, "\\n' > $QM_STATUS_FILE; exit 137"));
    EXPECT_EQ(result.exit_code, code) << result.describe();
    EXPECT_EQ(result.out.find("scontrol requeue 77") != std::string::npos, code == kSaved) << result.describe();
  }
}

TEST(faults, a_launcher_that_the_ranks_could_not_tell_anything_starts_nothing) {
  const TemporaryFolder folder;
  const std::string never = "echo started nevertheless";
  const auto expect_one_line = [](const ProgramResult& result, const std::string& text) {
    EXPECT_EQ(result.exit_code, 1) << result.describe();
    EXPECT_NE(result.error.find(text), std::string::npos) << result.describe();
    EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.describe();
    EXPECT_EQ(result.out, "") << result.describe();
  };
  const std::string nowhere = folder / "nowhere";
  const ProgramResult slurm = run_slurm_sh(folder.path().string(), never, {"SLURM_SUBMIT_DIR=" + nowhere});
  expect_one_line(slurm, "slurm.sh: " + nowhere + "/.quadmamba-77: cannot be written");

  const std::string mpirun = folder / "mpirun";
  write_script(mpirun, never);
  // As a full disk has it: a folder can be made, a file in it not be filled.
  const ProgramResult train = run_program(
      {"bash", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "bash", QM_SOURCE_DIR "/launch/train.sh", "2", "recipe"},
      {.environment = {"QM_PROGRAM=" + path_of_quadmamba(), "QM_MPIRUN=" + mpirun}, .folder = {}});
  expect_one_line(train, "/status: cannot be written");
}

TEST(faults, a_reader_that_is_gone_does_not_keep_a_run_from_saving) {
  const SmallProject project;
  // As Ctrl-C leaves a run that is piped to `tee`: that one is gone before the run says that it saves.
  Strings arguments{"bash", "-c", "{ \"$0\" \"$@\"; echo $? >&2; } | true", path_of_quadmamba()};
  for (const std::string& each : project.train_arguments("run", {.options = {"--fault=int@step:6"}})) {
    arguments.push_back(each);
  }
  const ProgramResult result = run_program(arguments);
  EXPECT_TRUE(result.error.ends_with("\n75\n")) << result.describe();
  EXPECT_TRUE(fs::exists(project.checkpoint("run", 5)) || fs::exists(project.checkpoint("run", 6)));
}

}  // namespace
}  // namespace qm
