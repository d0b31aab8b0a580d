#include "launch/resume.h"

#include <filesystem>
#include <map>
#include <sstream>

#include "kernels/base/fault.h"

namespace qm {
namespace {

/// "table.key" → value, from the one-key-a-line form that Recipe::to_toml writes.
std::map<std::string, std::string> keys_of(const Recipe& recipe) {
  std::map<std::string, std::string> keys;
  std::istringstream lines(recipe.to_toml());
  std::string table;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[")) {
      table = line.substr(1, line.find(']') - 1) + ".";
    } else if (const std::size_t equals = line.find(" = "); equals != std::string::npos) {
      keys[table + line.substr(0, equals)] = line.substr(equals + 3);
    }
  }
  return keys;
}

/// The recipe with everything that may change between the parts of a run taken from `current`.
Recipe without_free_keys(Recipe saved, const Recipe& current) {
  saved.name = current.name;
  saved.data.path = current.data.path;
  saved.data.threads = current.data.threads;
  saved.data.prefetch = current.data.prefetch;
  saved.train.micro_batch = current.train.micro_batch;
  saved.train.max_steps = current.train.max_steps;
  saved.train.activation_checkpointing = current.train.activation_checkpointing;
  saved.train.graph = current.train.graph;
  saved.train.log_every = current.train.log_every;
  saved.train.not_finite = current.train.not_finite;
  saved.eval = current.eval;
  saved.checkpoint = current.checkpoint;
  return saved;
}

}  // namespace

std::optional<FoundCheckpoint> newest_good_checkpoint(RunFolder& folder) {
  std::vector<std::string> paths = folder.checkpoints();
  if (std::filesystem::exists(folder.best_path())) paths.push_back(folder.best_path());
  for (const auto& path : paths) {
    fault_point("load");
    try {
      return FoundCheckpoint{path, read_checkpoint(path)};
    } catch (const IoError& error) {
      folder.log(concat("passed over: ", error.what()));
    }
  }
  QM_CHECK(paths.empty(), IoError, folder.path(), ": none of its ", paths.size(), " checkpoints can be read");
  return std::nullopt;
}

std::string differences_of_runs(const FoundCheckpoint& found, const Recipe& recipe, std::uint64_t data_digest) {
  const Recipe saved =
      without_free_keys(Recipe::parse(found.checkpoint.recipe, found.path + " (its recipe)"), recipe);
  const auto before = keys_of(saved), now = keys_of(recipe);
  std::string differences;
  for (const auto& [key, value] : now) {
    const auto old = before.find(key);
    if (old == before.end() || old->second != value) {
      differences += concat("; ", key, ": ", old == before.end() ? "absent" : old->second, " in the checkpoint, ",
                            value, " now");
    }
  }
  for (const auto& [key, value] : before) {
    if (!now.contains(key)) differences += concat("; ", key, ": ", value, " in the checkpoint, absent now");
  }
  const std::uint64_t saved_digest = found.checkpoint.state.data_digest;
  if (saved_digest != data_digest) {
    differences += concat("; training data: digest ", std::hex, saved_digest, " in the checkpoint, ", data_digest,
                          " now");
  }
  return differences;
}

}  // namespace qm
