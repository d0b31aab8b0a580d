#!/usr/bin/env bash
# A Slurm batch job that trains and survives its time limit and pre-emption. Adapt the lines below to the cluster, then
#
#   sbatch launch/slurm.sh RECIPE --data DIR --run DIR [options of quadmamba train]
#
# in the folder that holds launch/; from elsewhere, or for a copy of this script, QM_LAUNCH names launch/.
#
# Five minutes before the end Slurm sends USR1, every rank agrees to stop, a checkpoint is written, and the job puts
# itself back into the queue; --resume goes on from there on as many ranks as the allocation then has.
#SBATCH --job-name=quadmamba
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=quadmamba-%j.log
set -uo pipefail

# Slurm runs a copy of this script, elsewhere.
launch="${QM_LAUNCH:-${SLURM_SUBMIT_DIR:-$PWD}/launch}"
# shellcheck source=launch/forward_signals.sh
source "$launch/forward_signals.sh" || exit 1

readonly stopped=75  # saved, please requeue
[[ " $* " == *" --resume "* ]] || set -- "$@" --resume  # a new run, too, may be told to resume

# Rank 0, on whichever host, writes here that every rank takes signals up, and the code it ends with: a folder that all
# hosts see.
export QM_STATUS_FILE="${SLURM_SUBMIT_DIR:-$PWD}/.quadmamba-$SLURM_JOB_ID"
rm -f "$QM_STATUS_FILE"
trap 'rm -f "$QM_STATUS_FILE"' EXIT

# A rank that dies takes the step with it at once instead of leaving the others to their deadline.
run_job srun --mpi=pmix --kill-on-bad-exit=1 "${QM_PROGRAM:-quadmamba}" train "$@"
status=$?
# A rank that srun kills, since another left a moment before, hides in srun's own code that all was saved.
if [[ $status -ne 0 ]] && was_told "$stopped"; then
  status=$stopped
fi
if [[ $status -eq $stopped ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
