#!/usr/bin/env bash
# From nothing to a trained model on two CPU cores: installs packages, builds, generates and packs images, trains with
# two processes, evaluates, predicts, and says how often the model's selected quadrant holds the glyph.
#
#   launch/quickstart.sh
#
# Data goes to quickstart-data/ and is reused by a second call; the run goes to runs/quickstart/ and is started over.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ $# -gt 0 ]]; then
  echo "Usage: launch/quickstart.sh   (no arguments)" >&2
  exit 2
fi

readonly ranks=2
readonly build_dir="${QM_BUILD_DIR:-build/release}"
readonly quadmamba="$build_dir/quadmamba"
readonly images=quickstart-data/images
readonly shards=quickstart-data/shards
readonly run=runs/quickstart

step() {
  printf '\n== %s\n' "$1"
}

step "Packages and build"
launch/install_packages.sh
launch/build.sh "$build_dir" quadmamba

# shellcheck source=launch/mpi_environment.sh
source launch/mpi_environment.sh
threads=$(($(nproc) / ranks))
export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))

step "Images: small glyphs anywhere on textured backgrounds"
if [[ -d $images/train && -d $images/val ]]; then
  echo "Reusing $images."
else
  rm -rf "$images"
  "$quadmamba" glyphs --output "$images"
fi

step "Shards"
for split in train val; do
  "$quadmamba" pack --input "$images/$split" --split "$split" --output "$shards" --shards 2 --overwrite
done

step "Training with $ranks processes"
rm -rf "$run"
mpirun -np "$ranks" "$quadmamba" train recipes/quickstart.toml --data "$shards" --run "$run"

readonly checkpoint=$run/checkpoints/best.h5

step "Evaluation of $checkpoint"
"$quadmamba" eval --checkpoint "$checkpoint" --data "$shards"

step "Predictions"
predicted=()
for class in checker rings vertical; do
  examples=("$images/val/$class"/*.jpg)
  predicted+=("${examples[0]}")
done
"$quadmamba" predict --checkpoint "$checkpoint" "${predicted[@]}"

step "Where the model looks: is the glyph in the selected quadrant? (chance: 25 %)"
"$quadmamba" quadrants --checkpoint "$checkpoint" --data "$images/val"
