// The commands of the program, each in launch/command_<name>.cpp.
#pragma once

#include "launch/command.h"

namespace qm {

CommandFunction run_pack;       ///< a class-per-folder tree of images → shards
CommandFunction run_train;      ///< a recipe and shards → checkpoints, on every rank of an mpirun
CommandFunction run_eval;       ///< a checkpoint and shards → top-1, top-5, loss, on every rank of an mpirun
CommandFunction run_predict;    ///< a checkpoint and image files → classes
CommandFunction run_inspect;    ///< what a recipe, shard or checkpoint holds
CommandFunction run_bench;      ///< a recipe → how fast it trains and infers; and shards → how fast they are read
CommandFunction run_data_grid;  ///< a recipe and shards → a picture of augmented samples
CommandFunction run_glyphs;     ///< the generated quickstart images
CommandFunction run_quadrants;  ///< a checkpoint and those images → how often the selected quadrant holds the glyph
CommandFunction run_doctor;     ///< what this machine has and lacks, and whether every op computes right on it

}  // namespace qm
