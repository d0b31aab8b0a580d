#!/usr/bin/env bash
# Trains, or goes on with a run, on the processes of this machine, and lets a signal end it with nothing lost:
#
#   launch/train.sh RANKS RECIPE [options of quadmamba train]
#
# TERM, INT, HUP, USR1 or USR2 to this script saves a checkpoint and ends with exit code 75: the same command again goes
# on. A second signal ends at once. The exit code is otherwise that of quadmamba (README, "For operators").
#
# QM_PROGRAM names the program (default: build/release/quadmamba, else quadmamba on the PATH), QM_MPIRUN mpirun.
set -uo pipefail

here="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
# shellcheck source=launch/forward_signals.sh
source "$here/forward_signals.sh"

usage() {
  echo "Usage: launch/train.sh RANKS RECIPE [options of quadmamba train]" >&2
  exit 2
}
[[ $# -ge 2 && $1 =~ ^[1-9][0-9]*$ ]] || usage
readonly ranks=$1
shift
[[ " $* " == *" --resume "* ]] || set -- "$@" --resume  # a new run, too, may be told to resume

program="${QM_PROGRAM:-$here/../build/release/quadmamba}"
if [[ ! -x $program ]]; then
  program=quadmamba
fi
mpirun="${QM_MPIRUN:-mpirun}"
for each in "$mpirun" "$program"; do
  if ! command -v "$each" >/dev/null; then
    echo "train.sh: $each: not found; QM_MPIRUN and QM_PROGRAM name mpirun and the program" >&2
    exit 1
  fi
done
# shellcheck source=launch/mpi_environment.sh
source "$here/mpi_environment.sh"

# Rank 0 writes here that every rank takes signals up, and then the code it ends with.
status_folder="$(mktemp -d)" || exit 1
trap 'rm -rf "$status_folder"' EXIT
export QM_STATUS_FILE="$status_folder/status"

# In a session of its own mpirun does not see what a terminal sends to everything in the foreground.
run_job setsid "$mpirun" -np "$ranks" "$program" train "$@"
status=$?
# Where mpirun was signalled itself, it killed the ranks within two seconds, and its own code says nothing of them.
if [[ $status -eq 1 ]]; then
  if was_told 75; then
    status=75
  elif [[ "$(cat "$QM_STATUS_FILE" 2>/dev/null)" == started ]]; then  # and no rank told an error, before that or after it
    echo "train.sh: mpirun got a signal too and ended the job before it had saved;" \
      "the same command goes on from the last checkpoint" >&2
    status=$((128 + $(kill -l TERM)))
  fi
fi
exit "$status"
