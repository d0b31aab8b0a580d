// How the program ends: an error in one line, and the whole job with it; and what its launcher hears of that.
#pragma once

#include <string>

#include "dist/environment.h"

namespace qm {

inline constexpr int kFailed = 1;  ///< exit code

/// Prints "quadmamba: what" on stderr, one line whatever it holds, under mpirun with the rank, and with its host where
/// there are several. By any thread.
void print_error(const std::string& what, const Environment& environment);

/// Adds a line to the file that a launcher named in QM_STATUS_FILE: "started" as soon as no rank can lose a signal any
/// more, later the exit code. mpirun's own code may hide it. Where it cannot be written nothing is lost.
void tell_launcher(const std::string& line);

/// print_error(), unless another rank of this host has said already why the job ends, and then ends all processes of
/// the job with kFailed: the others may be waiting for this one. Returns kFailed in a job of one process.
int end_job(const std::string& what, const Environment& environment);

}  // namespace qm
