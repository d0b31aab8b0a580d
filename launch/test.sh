#!/usr/bin/env bash
# Installs what is needed, builds and runs the tests. The last line says how many passed and failed.
#
#   launch/test.sh [--slow]     --slow: the long tests too
#
# QM_BUILD_DIR names the build folder (default build/release), QM_GOLDEN_DIR a folder of further golden files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  echo "Usage: launch/test.sh [--slow]"
}

include_slow=false
for argument in "$@"; do
  case "$argument" in
    --slow) include_slow=true ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      echo "test.sh: unknown argument '$argument'" >&2
      usage >&2
      exit 2
      ;;
  esac
done

build_dir="${QM_BUILD_DIR:-build/release}"

launch/install_packages.sh
launch/build.sh "$build_dir"

# shellcheck source=launch/mpi_environment.sh
source launch/mpi_environment.sh

ctest_arguments=(--test-dir "$build_dir" --output-on-failure --no-tests=error)
if ! $include_slow; then
  ctest_arguments+=(--label-exclude slow)
fi
report="$(mktemp)"
trap 'rm -f "$report"' EXIT
ctest_status=0
ctest "${ctest_arguments[@]}" --output-junit "$report" || ctest_status=$?

# CI has no GPU. What ran on one is in a report (tests/gpu_report.sh); this says where the sources went on without it.
warn_of_old_gpu_report() {
  local gpu_report=tests/gpu_report.txt revision changed
  if [[ ! -f $gpu_report ]]; then
    echo "warning: there is no $gpu_report: nothing says that the GPU code was run"
    return
  fi
  revision="$(sed -n '/^source /{s/^source *//; s/-dirty$//; p; q}' "$gpu_report")"
  git rev-parse --git-dir >/dev/null 2>&1 || return 0  # sources without their history
  if ! changed="$(git diff --name-only "$revision" -- kernels autograd 2>/dev/null)"; then
    echo "warning: $gpu_report is of revision '$revision', which this clone does not hold"
  elif [[ -n $changed ]]; then
    echo "warning: $gpu_report is of $revision; since then $(wc -l <<<"$changed") files of kernels/ and autograd/ changed"
  fi
}
warn_of_old_gpu_report

# From the report, test by test: ctest's own totals count a test whose program is missing as skipped.
count_lines() {
  grep --count "$1" "$report" || true
}
total="$(count_lines '<testcase ')"
passed="$(count_lines '<testcase .*status="run"')"
skipped="$(count_lines '<testcase .*status="disabled"\|<skipped message="SKIP_')"
failed=$((total - passed - skipped))

summary="$passed passed, $failed failed"
if [[ $skipped -gt 0 ]]; then
  summary+=", $skipped skipped"
fi
echo "$summary"
[[ $total -gt 0 && $failed -eq 0 && $ctest_status -eq 0 ]]
