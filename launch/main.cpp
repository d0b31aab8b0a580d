// quadmamba: the one program. Finds the command and runs it; the one place where errors are caught.
//
// Exit codes: 0 done, 1 failed, 2 not understood, 75 stopped by a signal with nothing lost, 128 + n ended by signal n.
// Each failure is one line on stderr.
#include <omp.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "dist/environment.h"
#include "kernels/base/fault.h"
#include "launch/command.h"
#include "launch/commands.h"
#include "launch/end_job.h"
#include "launch/revision.h"
#include "launch/stop.h"

namespace qm {
namespace {

constexpr int kNotUnderstood = 2;

constexpr std::array kCommands{
    Command{"pack", "pack a folder of images into shards", run_pack, false, true},
    Command{"train", "train a model as a recipe says, or resume", run_train, true, true},
    Command{"eval", "measure a checkpoint on a data set", run_eval, true, true},
    Command{"predict", "classify image files", run_predict, false},
    Command{"inspect", "show what a recipe, shard or checkpoint holds, and verify it", run_inspect, false},
    Command{"bench", "measure how fast a network trains and infers, and images are read", run_bench, false},
    Command{"data-grid", "draw a sheet of augmented samples with their labels", run_data_grid, false},
    Command{"glyphs", "generate the quickstart images", run_glyphs, false},
    Command{"quadrants", "show how often a model selects the quadrant that matters", run_quadrants, false},
    Command{"doctor", "show what this machine has and lacks, and test every op on it", run_doctor, false},
};

std::string overview() {
  std::string text =
      "quadmamba trains QuadMamba vision models.\n\n"
      "Usage: quadmamba COMMAND [arguments]\n"
      "       mpirun -np N quadmamba train|eval [arguments]\n\n";
  for (const Command& command : kCommands) {
    const std::string name = command.name;
    text += "  " + name + std::string(11 - name.size(), ' ') + command.summary + "\n";
  }
  return text +
         "\n"
         "quadmamba COMMAND --help   the arguments of a command\n"
         "quadmamba --version        the source it was built from\n";
}

const Command& find_command(const std::string& name) {
  const auto* found =
      std::find_if(kCommands.begin(), kCommands.end(), [&](const Command& c) { return c.name == name; });
  QM_CHECK(found != kCommands.end(), UsageError, "unknown command '", name, "'; see quadmamba --help");
  return *found;
}

int run(const std::vector<std::string>& arguments, const Environment& environment) {
  QM_CHECK(!arguments.empty(), UsageError, "expected a command; see quadmamba --help");
  const std::string& name = arguments.front();
  if (name == "--help" || name == "-h") {
    std::cout << overview();
    return 0;
  }
  if (name == "--version") {
    std::cout << "quadmamba " << source_revision() << "\n";
    return 0;
  }
  const Command& command = find_command(name);
  QM_CHECK(command.parallel || environment.size() == 1, UsageError, name, ": runs as one process, not under mpirun");
  return command.run(std::span(arguments).subspan(1), environment);
}

/// Results that did not arrive, on a full disk for one, are a failure.
void check_output() {
  std::cout.flush();
  const bool arrived = std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good();
  QM_CHECK(arrived, IoError, "standard output: cannot be written (disk full?)");
}

int run_and_report(const std::vector<std::string>& arguments, const Environment& environment) {
  try {
    const int status = run(arguments, environment);
    check_output();
    return status;
  } catch (const Stopped& stopped) {
    // Every rank has come here, or will: none ends the job under the others.
    if (environment.rank() == 0) print_error(stopped.what(), environment);
    return kStopped;
  } catch (const UsageError& error) {
    // Every rank has the same command line and ends by itself; one line is enough.
    if (environment.rank() == 0) print_error(error.what(), environment);
    return kNotUnderstood;
  } catch (const std::bad_alloc&) {
    return end_job("out of memory", environment);
  } catch (const std::exception& error) {
    return end_job(error.what(), environment);
  }
}

/// Commands that look for signals catch them before anything else happens, MPI's start included; others just end.
void catch_signals_of(const char* name) {
  const auto* command = std::find_if(kCommands.begin(), kCommands.end(),
                                     [&](const Command& c) { return name && std::string_view(name) == c.name; });
  if (command != kCommands.end() && command->stops) catch_stop_signals();
}

/// The option --deadline of train and eval, which MPI's start needs before a command reads its line; whatever is wrong
/// with it, the command will say.
std::chrono::seconds deadline_of(const std::vector<std::string>& arguments) {
  constexpr std::string_view kOption = "--deadline", kAssigned = "--deadline=";
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    std::string_view text;
    if (argument == kOption && i + 1 < arguments.size()) text = arguments[i + 1];
    if (argument.starts_with(kAssigned)) text = argument.substr(kAssigned.size());
    int seconds = 0;
    std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (seconds > 0) return std::chrono::seconds(seconds);
  }
  return kDefaultDeadline;
}

// Ranks of one host share its cores; without this each would start a thread on every core. OMP_NUM_THREADS overrules.
void share_cores(const Environment& environment) {
  if (std::getenv("OMP_NUM_THREADS") || environment.size() == 1) return;
  const int share = omp_get_num_procs() / environment.local_size();
  omp_set_num_threads(std::clamp(share, 1, omp_get_max_threads()));
}

}  // namespace
}  // namespace qm

int main(int argc, char** argv) {
  // A file that outgrows the limit of `ulimit -f` is an error to report, not a reason to die.
  std::signal(SIGXFSZ, SIG_IGN);
  // Nor is a reader of the output that is gone: Ctrl-C also ends the `tee` behind a run that is to save first.
  std::signal(SIGPIPE, SIG_IGN);
  qm::catch_signals_of(argc > 1 ? argv[1] : nullptr);
  const auto report = [](const std::string& what) { std::cerr << "quadmamba: " + what + "\n"; };
  try {
    const qm::Environment environment(qm::deadline_of({argv + 1, argv + argc}), report);
    if (environment.rank() == 0) qm::tell_launcher("started");  // the others have come into MPI, and take signals up
    qm::share_cores(environment);
    const int status = qm::run_and_report({argv + 1, argv + argc}, environment);
    if (environment.rank() == 0) qm::tell_launcher(std::to_string(status));
    qm::fault_point("end");
    return status;
  } catch (const std::exception& error) {
    report(error.what());
    return qm::kFailed;
  }
}
