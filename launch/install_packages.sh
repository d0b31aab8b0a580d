#!/usr/bin/env bash
# Installs the Debian 12 packages that building, testing and running need. Does nothing where all are present.
# Needs root or sudo. On another system it only says what is needed: the build will name what it does not find.
set -euo pipefail

packages=(
  g++ cmake ninja-build
  libopenmpi-dev openmpi-bin
  libhdf5-dev
  libopenblas-openmp-dev
  libjpeg62-turbo-dev libpng-dev
  libboost-program-options-dev
  libtomlplusplus-dev
  libgtest-dev
)

is_installed() {
  [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    is_installed "$package" || echo "$package"
  done
}

fail() {
  echo "install_packages.sh: $1" >&2
  exit 1
}

if ! command -v apt-get >/dev/null; then
  echo "install_packages.sh: this is no Debian system; the build needs what these packages hold: ${packages[*]}" >&2
  exit 0
fi

mapfile -t missing < <(missing_packages)
if [[ ${#missing[@]} -eq 0 ]]; then
  exit 0
fi

as_root=()
if [[ $EUID -ne 0 ]]; then
  command -v sudo >/dev/null || fail "these packages are missing, and there is neither root nor sudo: ${missing[*]}"
  as_root=(sudo)
fi

echo "Installing packages: ${missing[*]}"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update --quiet
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install --quiet --yes --no-install-recommends "${missing[@]}" ||
  fail "apt-get could not install: ${missing[*]}"
