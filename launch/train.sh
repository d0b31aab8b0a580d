#!/usr/bin/env bash
# Trains, or goes on with a run, on the processes of this machine, and lets a signal end it with nothing lost:
#
#   launch/train.sh RANKS RECIPE [options of quadmamba train]
#
# TERM, INT, USR1 or USR2 to this script saves a checkpoint and ends with exit code 75: the same command again goes on.
# A second signal ends at once. The exit code is otherwise that of quadmamba (README, "For operators").
#
# QM_PROGRAM names the program (default: build/release/quadmamba, else quadmamba on the PATH), QM_MPIRUN mpirun.
set -uo pipefail

usage() {
  echo "Usage: launch/train.sh RANKS RECIPE [options of quadmamba train]" >&2
  exit 2
}
[[ $# -ge 2 && $1 =~ ^[1-9][0-9]*$ ]] || usage
readonly ranks=$1
shift
[[ " $* " == *" --resume "* ]] || set -- "$@" --resume  # a new run, too, may be told to resume

here="$(dirname "${BASH_SOURCE[0]}")"
program="${QM_PROGRAM:-$here/../build/release/quadmamba}"
if [[ ! -x $program ]]; then
  program=quadmamba
fi
# shellcheck source=launch/mpi_environment.sh
source "$here/mpi_environment.sh"

# mpirun kills its ranks a second after it gets TERM or INT, long before a checkpoint is written; USR1 it hands on. In a
# session of its own it does not see the INT that a terminal sends to everything in the foreground.
interrupted=false
pass_on() {
  interrupted=true
  kill -USR1 "$job" 2>/dev/null || true
}
job=
trap 'interrupted=true' TERM INT USR1 USR2
setsid "${QM_MPIRUN:-mpirun}" -np "$ranks" "$program" train "$@" &
job=$!
trap pass_on TERM INT USR1 USR2
if $interrupted; then
  pass_on
fi

# A signal ends `wait` before the job has ended.
while true; do
  interrupted=false
  wait "$job"
  status=$?
  $interrupted || break
done
exit "$status"
