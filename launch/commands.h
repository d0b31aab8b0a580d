// The commands of the program, each in launch/command_<name>.cpp. Arguments are what follows the command's name; the
// result is the exit code. They throw UsageError for a command line that cannot be understood and qm::Error for all
// else.
#pragma once

#include <span>
#include <string>

namespace qm {

/// A class-per-folder tree of images → shards.
int run_pack(std::span<const std::string> arguments);
/// A recipe and shards → checkpoints. Runs on every rank of an mpirun.
int run_train(std::span<const std::string> arguments);
/// A checkpoint and shards → top-1, top-5, loss. Runs on every rank of an mpirun.
int run_eval(std::span<const std::string> arguments);
/// A checkpoint and image files → classes.
int run_predict(std::span<const std::string> arguments);
/// What a recipe, shard or checkpoint holds.
int run_inspect(std::span<const std::string> arguments);
/// The generated quickstart images.
int run_glyphs(std::span<const std::string> arguments);

}  // namespace qm
