#include "launch/resume.h"

#include <filesystem>
#include <map>
#include <sstream>
#include <system_error>
#include <utility>

#include "data/file.h"
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

/// What evaluations measure; when they do, and in what portions, as `current` has it.
Recipe::Eval measure_of(Recipe::Eval saved, const Recipe::Eval& current) {
  saved.every_steps = current.every_steps;
  saved.every_epochs = current.every_epochs;
  saved.batch = current.batch;
  return saved;
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
  saved.eval = measure_of(saved.eval, current.eval);
  saved.checkpoint = current.checkpoint;
  return saved;
}

Recipe recipe_of(const Checkpoint& checkpoint, const std::string& path) {
  return Recipe::parse(checkpoint.recipe, path + " (its recipe)");
}

/// A link to a file that is gone: there is nothing that may be sound.
bool leads_nowhere(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::status(path, ignored).type() == std::filesystem::file_type::not_found;
}

/// The checkpoint, or nothing where it is damaged or gone, which the log says then.
std::optional<Checkpoint> read_good(RunFolder& folder, const std::string& path) {
  fault_point("load");
  try {
    return read_checkpoint(path);
  } catch (const UnreadableFile& error) {
    if (!leads_nowhere(path)) {
      throw UnreadableFile(concat(error.what(), "; nothing older is resumed from while it lies there"));
    }
    folder.log(concat("passed over: ", path, ": a link to a file that is not there"));
  } catch (const IoError& error) {
    folder.log(concat("passed over: ", error.what()));
  }
  return std::nullopt;
}

Checkpoint without_tensors(const Checkpoint& checkpoint) {
  Checkpoint rest;
  rest.state = checkpoint.state;
  rest.recipe = checkpoint.recipe;
  rest.revision = checkpoint.revision;
  rest.class_names = checkpoint.class_names;
  return rest;
}

/// Whether the steps of both are steps of the same size over the same samples, so that the higher number is the newer.
bool count_alike(const TrainingState& a, const TrainingState& b) {
  return a.global_batch == b.global_batch && a.data_digest == b.data_digest;
}

std::string digest_difference(const char* what, std::uint64_t before, std::uint64_t now) {
  return before == now ? "" : concat("; ", what, ": digest ", std::hex, before, " in the checkpoint, ", now, " now");
}

}  // namespace

std::optional<FoundCheckpoint> newest_good_checkpoint(RunFolder& folder) {
  if (!folder.has_checkpoints()) return std::nullopt;
  std::optional<FoundCheckpoint> found;
  for (const std::string& path : folder.checkpoints()) {
    if (auto checkpoint = read_good(folder, path)) {
      const std::int64_t step = checkpoint->state.step;
      found = FoundCheckpoint{path, std::move(*checkpoint), step, std::nullopt};
      break;
    }
  }
  if (folder.has_best()) {
    if (auto best = read_good(folder, folder.best_path())) {
      Checkpoint rest = without_tensors(*best);
      const bool is_newer =
          !found || (count_alike(best->state, found->checkpoint.state) && best->state.step > found->newest_step);
      if (is_newer) found = FoundCheckpoint{folder.best_path(), std::move(*best), found ? found->newest_step : 0, {}};
      found->best = std::move(rest);
    }
  }
  QM_CHECK(found, IoError, folder.path(), ": none of its ", folder.checkpoints().size() + folder.has_best(),
           " checkpoints is good");
  return found;
}

std::string differences_of_runs(const FoundCheckpoint& found, const Recipe& recipe, const DataDigests& digests) {
  const Recipe saved = without_free_keys(recipe_of(found.checkpoint, found.path), recipe);
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
  const TrainingState& state = found.checkpoint.state;
  differences += digest_difference("training data", state.data_digest, digests.train);
  if (state.val_digest != 0) differences += digest_difference("validation data", state.val_digest, digests.val);
  return differences;
}

bool is_measured_alike(const Checkpoint& checkpoint, const Recipe& recipe, std::uint64_t val_digest) {
  const std::uint64_t before = checkpoint.state.val_digest;
  const Recipe::Eval then = recipe_of(checkpoint, "best.h5").eval;
  return (before == 0 || before == val_digest) && measure_of(then, recipe.eval) == recipe.eval;
}

}  // namespace qm
