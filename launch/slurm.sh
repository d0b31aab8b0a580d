#!/usr/bin/env bash
# A Slurm batch job that trains and survives its time limit and pre-emption. Adapt the lines below to the cluster, then
#
#   sbatch launch/slurm.sh RECIPE --data DIR --run DIR [options of quadmamba train]
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

# First of all: a signal that comes before the job can take it up is kept for it.
signals=0
trap '((++signals))' TERM INT HUP USR1 USR2

readonly stopped=75  # saved, please requeue
[[ " $* " == *" --resume "* ]] || set -- "$@" --resume  # a new run, too, may be told to resume

# Rank 0, on whichever host, writes here that every rank takes signals up: a folder that all hosts see.
export QM_STATUS_FILE="${SLURM_SUBMIT_DIR:-$PWD}/.quadmamba-$SLURM_JOB_ID"
rm -f "$QM_STATUS_FILE"
trap 'rm -f "$QM_STATUS_FILE"' EXIT

# A rank that dies takes the step with it at once instead of leaving the others to their deadline.
srun --mpi=pmix --kill-on-bad-exit=1 "${QM_PROGRAM:-quadmamba}" train "$@" &
job=$!

# While it starts, a signal would end a rank or reach none. Where rank 0 cannot write there, time decides.
until [[ -s $QM_STATUS_FILE ]] || ((SECONDS > 120)) || ! kill -0 "$job" 2>/dev/null; do
  sleep 0.2
done

# srun hands USR1 on to every rank. It must not see TERM, which would kill the ranks after KillWait; this shell does.
pass_on() {
  ((++signals))
  kill -USR1 "$job" 2>/dev/null || true
}
trap pass_on TERM INT HUP USR1 USR2
if ((signals > 0)); then
  pass_on
fi

# A signal ends `wait` before the job has ended.
while true; do
  before=$signals
  wait "$job"
  status=$?
  ((signals > before)) || break
done
if [[ $status -eq $stopped ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
