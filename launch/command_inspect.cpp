// quadmamba inspect: what a recipe, shard or checkpoint holds, verified.
#include <cstdio>

#include "data/checkpoint.h"
#include "data/file.h"
#include "data/guarded_file.h"
#include "data/shard.h"
#include "launch/commands.h"
#include "launch/factory.h"
#include "launch/model_file.h"
#include "layers/saved_memory.h"

namespace qm {
namespace {

/// 31252176 → "31,252,176"
std::string grouped(std::int64_t number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

/// Of training on one rank.
void print_memory(const Recipe& recipe, const QuadMambaConfig& config, std::int64_t parameters) {
  constexpr double kMebibyte = 1 << 20;
  constexpr int kImageCopies = 3;  // those that are read, and two steps' on their way
  const auto& train = recipe.train;
  const std::int64_t height = recipe.model.height, width = recipe.model.width;
  const std::int64_t batch = train.micro_batch > 0 ? train.micro_batch : train.global_batch;
  const DType activations = activation_dtype(recipe);
  const double kept = saved_bytes(config, height, width, batch, activations, train.activation_checkpointing) / kMebibyte;
  const double numbers =
      bytes_per_parameter(activations, train.ema_decay > 0) * static_cast<double>(parameters) / kMebibyte;
  const double images = static_cast<double>(kImageCopies * train.global_batch * height * width * 3) / kMebibyte;
  std::printf("memory         about %.0f MiB at the peak of training on one rank\n", kept + numbers + images);
  std::printf("  %-16s %12.0f   of a micro-batch of %lld%s\n", "activations", kept, static_cast<long long>(batch),
              train.activation_checkpointing ? ", checkpointed" : "");
  std::printf("  %-16s %12.0f   with gradients, moments and average\n", "parameters", numbers);
  std::printf("  %-16s %12.0f   of a global batch of %lld\n", "images", images,
              static_cast<long long>(train.global_batch));
}

void print_model(const Recipe& recipe) {
  ParameterStore parameters;
  const QuadMamba model(parameters, model_config(recipe));
  const MultiplyAdds work = count_multiply_adds(model.config(), recipe.model.height, recipe.model.width);
  const auto& depths = recipe.model.depths;
  std::printf("model          dim %lld, depths %lld,%lld,%lld,%lld, %lld classes, %lldx%lld, %s\n",
              static_cast<long long>(recipe.model.dim), static_cast<long long>(depths[0]),
              static_cast<long long>(depths[1]), static_cast<long long>(depths[2]), static_cast<long long>(depths[3]),
              static_cast<long long>(recipe.model.classes), static_cast<long long>(recipe.model.height),
              static_cast<long long>(recipe.model.width), std::string(to_string(recipe.model.fine_order)).c_str());
  std::printf("parameters     %s\n", grouped(parameters.count()).c_str());
  for (const auto& [part, count] : count_parameters(parameters)) {
    std::printf("  %-16s %12s\n", part.c_str(), grouped(count).c_str());
  }
  std::printf("multiply-adds  %.3f G an image\n", work.total() / 1e9);
  std::printf("  %-16s %10.4f G\n", "convolutions", work.convolutions / 1e9);
  std::printf("  %-16s %10.4f G\n", "linear", work.linear / 1e9);
  std::printf("  %-16s %10.4f G\n", "projections", work.projections / 1e9);
  std::printf("  %-16s %10.4f G\n", "scans", work.scans / 1e9);
  print_memory(recipe, model.config(), parameters.count());
}

void print_shard(const std::string& file) {
  const ShardReport report = verify_shard(file);
  std::printf("shard          split %s, every byte verified\n", report.split.c_str());
  std::printf("samples        %s (%s JPEG, %s PNG), sides %lld to %lld\n", grouped(report.samples).c_str(),
              grouped(report.jpegs).c_str(), grouped(report.pngs).c_str(),
              static_cast<long long>(report.smallest_side), static_cast<long long>(report.largest_side));
  std::printf("bytes          %s of images, %s in all\n", grouped(static_cast<std::int64_t>(report.data_bytes)).c_str(),
              grouped(static_cast<std::int64_t>(report.file_bytes)).c_str());
  std::printf("classes        %zu\n", report.class_names.size());
  for (std::size_t c = 0; c < report.class_names.size(); ++c) {
    std::printf("  %-16s %12s\n", report.class_names[c].c_str(), grouped(report.samples_per_class[c]).c_str());
  }
}

void print_checkpoint(const std::string& file, const Checkpoint& checkpoint) {
  const TrainingState& state = checkpoint.state;
  const Recipe recipe = Recipe::parse(checkpoint.recipe, file + " (its recipe)");
  std::printf("checkpoint     %s, every byte verified\n", recipe.name.c_str());
  std::printf("step           %lld (epoch %lld, step %lld of it), written by %lld ranks\n",
              static_cast<long long>(state.step), static_cast<long long>(state.epoch),
              static_cast<long long>(state.step_in_epoch), static_cast<long long>(state.world_size));
  std::printf("best top-1     %.2f%% at step %lld\n", 100 * state.best_top1, static_cast<long long>(state.best_step));
  std::printf("weights        %zu parameters by name, %s\n", checkpoint.model.size(),
              checkpoint.ema.empty() ? "no EMA" : concat("EMA of ", state.ema_updates, " updates").c_str());
  std::printf("precision      %s, seed %llu, global batch %lld\n", std::string(to_string(recipe.precision)).c_str(),
              static_cast<unsigned long long>(state.seed), static_cast<long long>(state.global_batch));
  std::printf("source         %s\n", checkpoint.revision.c_str());
  print_model(recipe);
}

/// One digest over all weights a checkpoint holds: model and, where there is one, EMA.
std::string digest_of(const Checkpoint& checkpoint) {
  std::vector<NamedTensor> all;
  for (const auto& [name, tensor] : checkpoint.model) all.push_back({"model/" + name, tensor});
  for (const auto& [name, tensor] : checkpoint.ema) all.push_back({"ema/" + name, tensor});
  return weights_digest(all);
}

}  // namespace

int run_inspect(std::span<const std::string> arguments, const Environment&) {
  CommandLine line("inspect",
                   "Shows what a file holds. A recipe: parameters and multiply-adds by part. A shard or checkpoint:\n"
                   "its contents, after every byte has been verified.");
  std::string file;
  bool hash = false, show_recipe = false;
  std::vector<std::string> overrides;
  line.positional("FILE", file, "a recipe (.toml), shard or checkpoint (.h5)");
  line.flag("hash", hash, "print one digest of a checkpoint's weights and nothing else");
  line.flag("recipe", show_recipe, "print a checkpoint's or recipe file's resolved recipe and nothing else");
  line.assignments("set", overrides, "replace a key of a recipe, such as model.image_size=256");
  if (!line.parse(arguments)) return 0;
  QM_CHECK(!hash || !show_recipe, UsageError, "inspect: either --hash or --recipe, not both");

  if (file.ends_with(".toml")) {
    QM_CHECK(!hash, UsageError, "inspect: --hash is for checkpoints, ", file, " is a recipe");
    const Recipe recipe = Recipe::load(file, overrides);
    show_recipe ? static_cast<void>(std::printf("%s", recipe.to_toml().c_str())) : print_model(recipe);
    return 0;
  }
  QM_CHECK(overrides.empty(), UsageError, "inspect: --set is for recipes, ", file, " is none");
  if (read_guard(InputFile(file)).kind == FileKind::kShard) {
    QM_CHECK(!hash && !show_recipe, UsageError, "inspect: --hash and --recipe are for checkpoints, ", file,
             " is a shard");
    print_shard(file);
    return 0;
  }
  const Checkpoint checkpoint = read_checkpoint(file);
  if (hash) {
    std::printf("%s\n", digest_of(checkpoint).c_str());
  } else if (show_recipe) {
    std::printf("%s", checkpoint.recipe.c_str());
  } else {
    print_checkpoint(file, checkpoint);
  }
  return 0;
}

}  // namespace qm
