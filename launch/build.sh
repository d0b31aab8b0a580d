#!/usr/bin/env bash
# Configures and builds the release preset: launch/build.sh FOLDER [TARGET…]   (default target: all)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build_dir="${1:?usage: launch/build.sh FOLDER [TARGET…]}"
shift
targets=("${@:-all}")

configure=(cmake --preset release -B "$build_dir")
if command -v ccache >/dev/null; then
  configure+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  export CMAKE_CUDA_COMPILER_LAUNCHER=ccache  # not as an option: without nvcc CMake would call it unused
fi
"${configure[@]}"
cmake --build "$build_dir" --target "${targets[@]}"
