// Stopping on request: what happens between a signal and the end of the program.
//
// The first USR1, USR2, TERM, INT or HUP (a terminal that is gone) only leaves a note. Loops look at it where they can
// stop cleanly: every rank at the same place, since one rank's signal is every rank's. The next one ends the process on
// the spot with exit code 128 + signal.
//
// What comes within half a second of the first, of whatever kind and from whomever, is the same request: a job that is
// signalled as a whole gets it from the system and from its launcher and mpirun, who pass on what they were sent. To
// take the second for impatience would lose what the first was to save; to wait half a second costs the impatient
// nothing else.
#pragma once

#include <string>

#include "dist/communicator.h"
#include "kernels/base/error.h"

namespace qm {

/// Exit code of a program that a signal stopped with nothing lost: run the same command again (train with --resume).
/// It is sysexits' EX_TEMPFAIL.
inline constexpr int kStopped = 75;

/// Thrown out of a loop that a signal has stopped.
class Stopped : public Error {
 public:
  /// "stopped by SIGTERM"
  explicit Stopped(int signal);
};

/// From here on the five signals are caught; SIGHUP unless it is ignored, as under nohup.
void catch_stop_signals();

/// Throws Stopped if one of them has come to this process.
void check_stop();
/// Collective: throws Stopped on every rank if one of them has come to any rank.
void check_stop(Communicator& communicator);

}  // namespace qm
