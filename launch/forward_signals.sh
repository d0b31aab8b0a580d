# Sourced by the launchers, before anything else: from here on a signal is kept until the job can take it up.
# shellcheck shell=bash

signals=0 first_signal=0
trap note_signal TERM INT HUP USR1 USR2
note_signal() {
  ((signals++ > 0)) || first_signal=$SECONDS
}

# Runs a command that starts all ranks, and returns its exit code. Every signal is handed on as USR1, which mpirun and
# srun pass to each rank; TERM or INT would make them kill the ranks long before a checkpoint is written.
run_job() {
  # Where nobody can write to it, signals would be kept for two minutes and what the ranks said would be lost.
  if ! { echo test >"$QM_STATUS_FILE" && : >"$QM_STATUS_FILE"; } 2>/dev/null; then
    echo "${0##*/}: $QM_STATUS_FILE: cannot be written, and the ranks have to (no such folder, no permission, disk full?)" >&2
    exit 1
  fi

  "$@" &
  job=$!

  # While it starts, USR1 would kill what starts the ranks, or a rank, or reach nobody: rank 0 writes into QM_STATUS_FILE
  # as soon as every rank takes it up. A job that says nothing in so long a time is sent it all the same.
  until [[ -s $QM_STATUS_FILE ]] || ((SECONDS > 120)) || ! kill -0 "$job" 2>/dev/null; do
    sleep 0.05
    if ((signals > 1 && SECONDS - first_signal >= 2)); then  # somebody is impatient, and there is nothing to save
      kill -TERM "$job"
      wait "$job"
      exit $((128 + $(kill -l USR1)))
    fi
  done
  trap pass_on TERM INT HUP USR1 USR2
  if ((signals > 0)); then
    pass_on
  fi

  # A signal ends `wait` before the job has ended.
  local before status
  while true; do
    before=$signals
    wait "$job"
    status=$?
    ((signals > before)) || return "$status"
  done
}

# Whether a rank wrote that line into QM_STATUS_FILE. Where several write, theirs come in any order.
was_told() {
  grep -qxF -e "$1" "$QM_STATUS_FILE" 2>/dev/null
}

pass_on() {
  ((++signals))
  kill -USR1 "$job" 2>/dev/null || true
}
