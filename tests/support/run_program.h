// Runs a program as a user would and keeps what it printed.
#pragma once

#include <string>
#include <vector>

namespace qm {

struct ProgramResult {
  int exit_code = -1;  ///< of a program that ended by itself, else -1
  int signal = 0;      ///< that ended it, else 0
  bool timed_out = false;
  double seconds = 0;  ///< from its start to its end
  std::string out;
  std::string error;

  bool succeeded() const { return exit_code == 0; }
  /// Everything above in words, for the message of a failed expectation.
  std::string describe() const;
};

struct RunOptions {
  std::vector<std::string> environment;  ///< "NAME=value", in addition to this process's
  double timeout_seconds = 120;          ///< then the program and its children are killed
  std::string folder;                    ///< working folder; empty: this process's
};

/// Runs `command` (program, then arguments; no shell) with stdin closed to it and waits. Throws IoError only when
/// nothing can be started at all; a program that does not exist gives exit code 127, as in a shell.
ProgramResult run_program(const std::vector<std::string>& command, const RunOptions& options = {});

/// The program of this build, and the mpirun that it was built for; elsewhere what QM_PROGRAM and QM_MPIRUN name.
std::string path_of_quadmamba();
std::string path_of_mpirun();

/// Runs `quadmamba` with `arguments`.
ProgramResult run_quadmamba(const std::vector<std::string>& arguments, const RunOptions& options = {});

/// Runs `quadmamba` with `arguments` under mpirun with `ranks` processes of one thread each.
ProgramResult run_quadmamba_ranks(int ranks, const std::vector<std::string>& arguments, RunOptions options = {});

}  // namespace qm
