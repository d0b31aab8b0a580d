#!/usr/bin/env bash
# Runs what only a machine with GPUs can show and writes one report of it. Builds nothing: it takes the programs of a
# build. Exit code 1 if anything failed.
#
#   tests/gpu_report.sh [--no-sanitizer] [--sanitizer-seconds N] [--output FILE] QM_TESTS QUADMAMBA
#
#   --no-sanitizer          leave compute-sanitizer out
#   --sanitizer-seconds N   for each of its runs; what it does not reach by then is left out (default 300)
#   --output FILE           default tests/gpu_report.txt, which belongs in the repository: launch/test.sh compares its
#                           revision with the sources
#
# QM_GOLDEN_DIR names a folder of golden files. What was left out is in the report.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly step_seconds=900
sanitizer=true
sanitizer_seconds=300
output=tests/gpu_report.txt
programs=()

fail() {
  echo "gpu_report.sh: $1" >&2
  exit 2
}

while [[ $# -gt 0 ]]; do
  case "$1" in
    --no-sanitizer) sanitizer=false ;;
    --sanitizer-seconds | --output)
      [[ $# -gt 1 ]] || fail "$1: its value is missing"
      if [[ $1 == --output ]]; then output="$2"; else sanitizer_seconds="$2"; fi
      shift
      ;;
    -*) fail "unknown option '$1'" ;;
    *) programs+=("$1") ;;
  esac
  shift
done
[[ ${#programs[@]} -eq 2 ]] || fail "expected two programs, QM_TESTS and QUADMAMBA, got ${#programs[@]}"
[[ $sanitizer_seconds =~ ^[1-9][0-9]*$ ]] || fail "--sanitizer-seconds: expected a number, got '$sanitizer_seconds'"
qm_tests="$(realpath "${programs[0]}")"
quadmamba="$(realpath "${programs[1]}")"
for program in "$qm_tests" "$quadmamba"; do
  [[ -x $program ]] || fail "$program: no program"
done

export QM_PROGRAM="$quadmamba"  # for the tests that run it, alone or on several ranks
if command -v mpirun >/dev/null; then
  QM_MPIRUN="$(command -v mpirun)"
  export QM_MPIRUN
fi

work="$(mktemp --directory)"
trap 'rm -rf "$work"' EXIT
readonly body="$work/body" log="$work/log"
passed=0
failed=0
left_out=0

# ---- steps -----------------------------------------------------------------------------------------------------------

# begin TITLE SECONDS COMMAND…: runs it into $log, within the time; sets $status (124: out of time) and $took.
begin() {
  title="$1"
  local seconds="$2" start=$SECONDS
  shift 2
  echo "$title …"
  status=0
  timeout --kill-after=10 "$seconds" "$@" >"$log" 2>&1 </dev/null || status=$?
  took=$((SECONDS - start))
}

# The end of a step: its line on the terminal, its heading in the report.
conclude() {
  echo "  $1"
  printf '\n== %s: %s\n' "$title" "$1" >>"$body"
}

step_passed() {
  passed=$((passed + 1))
  conclude "passed${1:+, $1} ($took s)"
}

step_failed() {
  failed=$((failed + 1))
  conclude "FAILED, $1 ($took s)"
  tail -n 80 "$log" | sed 's/^/    /' >>"$body"
}

# step_left_out TITLE WHY
step_left_out() {
  [[ ${title-} == "$1" ]] || echo "$1 …"
  title="$1"
  left_out=$((left_out + 1))
  conclude "left out, $2"
}

count_results() {
  grep --count --extended-regexp "^\[ +$1 +\] [^ ,]+ \(" "$log" || true
}

# One line a test.
list_results() {
  grep --extended-regexp '^\[ +(OK|FAILED|SKIPPED) +\] [^ ,]+ \(' "$log" >>"$body" || true
}

# run_tests TITLE FILTER FORBIDDEN COMMAND…: FORBIDDEN is a word in the log by which tests were skipped that must run.
run_tests() {
  local filter="$2" forbidden="$3" ran skipped
  begin "$1" "$step_seconds" "${@:4}" --gtest_color=no "--gtest_filter=$filter"
  ran="$(count_results OK)"
  skipped="$(count_results SKIPPED)"
  if [[ $status -ne 0 ]]; then
    step_failed "exit code $status"
  elif grep --quiet "$forbidden" "$log"; then
    step_failed "tests found no GPU"
  elif [[ $ran -gt 0 ]]; then
    step_passed "$ran tests$([[ $skipped -eq 0 ]] || echo ", $skipped skipped")"
  elif [[ $skipped -gt 0 ]]; then
    step_left_out "$title" "all $skipped tests were skipped"
  else
    step_failed "there are no such tests"
  fi
  list_results
}

# The tests of a filter whose end is not in the log.
tests_not_reached() {
  comm -23 <("$qm_tests" --gtest_list_tests "--gtest_filter=$1" | sed -n 's/^  \([^ ]*\).*/gpu.\1/p' | sort) \
    <(sed -n -E 's/^\[ +(OK|FAILED|SKIPPED) +\] ([^ ,]+) \(.*/\2/p' "$log" | sort)
}

# Library kernels (linear, mlp, conv2d, and what falls back on them) are not ours to check and take hours; golden tests
# are whole models; one allocator test fails an allocation on purpose; training is more than ops.
readonly op_tests='gpu.*-gpu.golden_*:gpu.allocator_*:gpu.train*:gpu.batches_*:gpu.a_rank_*:gpu.bench_*:gpu.parity_linear:gpu.parity_mlp:gpu.parity_conv2d:gpu.bf16_linear:gpu.bf16_mlp:gpu.bf16_linear_gelu_at_*:gpu.bf16_conv2d'

# Lines that begin with ========= but for a header, a summary and the note of a program that was ended.
findings() {
  grep '^=========' "$log" | grep --invert-match 'COMPUTE-SANITIZER\|SUMMARY: 0 \|process didn.t terminate' || true
}

# run_sanitizer TOOL FILTER [WHAT]
run_sanitizer() {
  local tool="$1" filter="$2"
  begin "compute-sanitizer $tool${3:+ $3}" "$sanitizer_seconds" \
    "$compute_sanitizer" --tool "$tool" --error-exitcode 9 "$qm_tests" --gtest_color=no "--gtest_filter=$filter"
  if grep --quiet 'Device not supported' "$log"; then
    step_left_out "$title" "it does not support this machine"
  elif [[ -n $(findings) ]]; then
    step_failed "it found something"
    findings | sed -n '1,60s/^/    /p' >>"$body"
  elif [[ $status -eq 124 || $status -eq 137 ]]; then
    step_passed "nothing found until it was ended"
    tests_not_reached "$filter" | sed 's/^/left out: /' >>"$body"
  elif [[ $status -ne 0 || $(count_results OK) -eq 0 ]]; then
    step_failed "exit code $status, $(count_results OK) tests passed"
  else
    step_passed "nothing found in $(count_results OK) tests"
  fi
  list_results
}

# ---- the machine -----------------------------------------------------------------------------------------------------

command -v nvidia-smi >/dev/null || fail "nvidia-smi is missing: is there a GPU and a driver?"
mapfile -t cards < <(nvidia-smi --query-gpu=name,memory.total,compute_cap --format=csv,noheader)
[[ ${#cards[@]} -gt 0 ]] || fail "nvidia-smi finds no GPU"
driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | sort --unique)"

# shellcheck source=launch/mpi_environment.sh
source launch/mpi_environment.sh

begin "quadmamba doctor" "$step_seconds" "$quadmamba" doctor
if [[ $status -ne 0 ]]; then
  step_failed "exit code $status"
elif ! grep --quiet '^cuda:0 ' "$log"; then
  step_failed "it sees no GPU"
else
  step_passed
  cat "$log" >>"$body"
fi

run_tests "GPU tests" 'gpu.*' 'no GPU' "$qm_tests"
run_tests "golden tests" 'golden.*' 'no GPU' "$qm_tests"

if [[ ${#cards[@]} -lt 2 ]]; then
  step_left_out "NCCL between two ranks" "there is one GPU"
elif ! command -v mpirun >/dev/null; then
  step_left_out "NCCL between two ranks" "there is no mpirun"
else
  run_tests "NCCL between two ranks, NCCL_NVLS_ENABLE=${NCCL_NVLS_ENABLE-unset}" 'nccl_mpi_ranks.*' 'SKIPPED' \
    mpirun --allow-run-as-root -np 2 ${NCCL_NVLS_ENABLE+-x NCCL_NVLS_ENABLE} "$qm_tests"
fi

compute_sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)"
if ! $sanitizer; then
  step_left_out "compute-sanitizer" "as asked"
elif [[ -z $compute_sanitizer ]]; then
  step_left_out "compute-sanitizer" "it is not there"
else
  step_left_out "compute-sanitizer on ${op_tests#*-}" "see tests/gpu_report.sh"
  for tool in memcheck initcheck; do run_sanitizer "$tool" "$op_tests"; done
  # The sweeps take racecheck a hundred times as long as the others, and the products with a GELU so long that those
  # behind them were not reached.
  run_sanitizer racecheck "$op_tests:gpu.bf16_*_scan*:gpu.bf16_linear_gelu_*ward"
  for kernel in linear_gelu_forward linear_gelu_backward selective_scan cross_scan quad_scan_{quadtree,window_raster}; do
    run_sanitizer racecheck "gpu.bf16_$kernel" "of $kernel"
  done
fi

# ---- the report ------------------------------------------------------------------------------------------------------

summary="$passed passed, $failed failed, $left_out left out"
{
  echo "What tests/gpu_report.sh found."
  echo
  echo "source   $("$quadmamba" --version | sed 's/^quadmamba //')"
  echo "date     $(date --utc '+%Y-%m-%d %H:%M UTC')"
  printf 'card     %s\n' "${cards[@]}"
  echo "driver   $driver"
  echo "result   $summary"
  cat "$body"
} >"$output"
echo "$output: $summary"
[[ $failed -eq 0 ]]
