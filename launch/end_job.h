// How an error ends the program: one line, and the whole job.
#pragma once

#include <string>

#include "dist/environment.h"

namespace qm {

inline constexpr int kFailed = 1;  ///< exit code

/// Prints "quadmamba: what" on stderr, one line whatever it holds, under mpirun with the rank. By any thread.
void print_error(const std::string& what, const Environment& environment);

/// print_error(), unless another rank of this host has said already why the job ends, and then ends all processes of the
/// job with kFailed: the others may be waiting for this one. Returns kFailed in a job of one process.
int end_job(const std::string& what, const Environment& environment);

}  // namespace qm
