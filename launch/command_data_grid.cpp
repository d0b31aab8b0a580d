// quadmamba data-grid: what the network is shown, as a PNG: a step's samples after augmentation, erasing and mixing.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>

#include "data/file.h"
#include "data/image.h"
#include "data/sampler.h"
#include "data/shard.h"
#include "kernels/memory.h"
#include "launch/commands.h"
#include "launch/factory.h"
#include "launch/pixel_text.h"

namespace qm {
namespace {

constexpr std::int64_t kMargin = 2, kLine = kTextHeight + 2;

/// The draws of mixup and cutmix for the positions from 0 of a step.
std::vector<MixGroup> draw_groups(const Recipe& recipe, std::uint32_t step, std::int64_t count) {
  std::vector<MixGroup> groups;
  for (std::int64_t first = 0; first < count; first += mix_group(recipe)) {
    groups.push_back(draw_mix(mix_config(recipe), recipe.seed, step, static_cast<std::uint32_t>(groups.size()),
                              recipe.model.height, recipe.model.width));
  }
  return groups;
}

std::uint8_t pixel_of(float value, double mean, double std) {
  return static_cast<std::uint8_t>(std::clamp(std::nearbyint((value * std + mean) * 255), 0.0, 255.0));
}

/// A label and, of a mixed sample, its partner's share.
std::vector<std::string> caption(const Batch& batch, const std::vector<std::string>& names, std::int64_t row,
                                 const MixGroup& mix) {
  const std::int32_t* labels = batch.labels.data<std::int32_t>();
  std::vector<std::string> lines = {names[static_cast<std::size_t>(labels[row])]};
  if (mix.target_weight < 1) {
    const auto percent = static_cast<int>(std::lround(100 * (1 - mix.target_weight)));
    lines.push_back(concat("+ ", percent, "% ", names[static_cast<std::size_t>(labels[row ^ 1])]));
  }
  return lines;
}

class Sheet {
 public:
  Sheet(const Recipe& recipe, std::int64_t count, std::int64_t columns)
      : recipe_(recipe),
        columns_(columns),
        tile_height_(recipe.model.height + 2 * kLine + 2 * kMargin),
        tile_width_(recipe.model.width + 2 * kMargin) {
    image_.height = (count + columns - 1) / columns * tile_height_;
    image_.width = std::min(count, columns) * tile_width_;
    image_.pixels.resize(static_cast<std::size_t>(image_.height * image_.width * 3));
  }

  void place(std::int64_t index, const float* x, const std::vector<std::string>& lines) {
    const std::int64_t top = index / columns_ * tile_height_ + kMargin, left = index % columns_ * tile_width_ + kMargin;
    for (std::int64_t i = 0; i < recipe_.model.height; ++i) {
      for (std::int64_t j = 0; j < recipe_.model.width * 3; ++j) {
        const auto c = static_cast<std::size_t>(j % 3);
        image_.pixels[static_cast<std::size_t>(((top + i) * image_.width + left) * 3 + j)] =
            pixel_of(*x++, recipe_.data.mean[c], recipe_.data.std[c]);
      }
    }
    const auto room = static_cast<std::size_t>(recipe_.model.width / kTextAdvance);
    for (std::size_t line = 0; line < lines.size(); ++line) {
      const std::int64_t y = top + recipe_.model.height + 2 + static_cast<std::int64_t>(line) * kLine;
      draw_text(image_, y, left, lines[line].substr(0, room));
    }
  }

  const Image& image() const { return image_; }

 private:
  const Recipe& recipe_;
  std::int64_t columns_, tile_height_, tile_width_;
  Image image_;
};

}  // namespace

int run_data_grid(std::span<const std::string> arguments, const Environment&) {
  std::string recipe_file, data, split = "train", output;
  std::int64_t count = 32, columns = 8, step = 0;
  std::vector<std::string> overrides;
  CommandLine line("data-grid",
                   "Draws the first samples of a training step as the network sees them, augmented, erased and mixed,\n"
                   "with their labels: the very pixels of a run with this recipe and seed.");
  line.positional("RECIPE", recipe_file, "a TOML file; see recipes/");
  line.required_option("data", "DIR", data, "folder with the shards");
  line.required_option("output", "FILE", output, "the PNG");
  line.option("split", "NAME", split, "which shards");
  line.option("step", "N", step, {0, 1'000'000'000}, "the training step, from 0");
  line.option("count", "N", count, {1, 4096}, "samples");
  line.option("columns", "N", columns, {1, 256}, "samples in a row");
  line.assignments("set", overrides, "replace a key of the recipe, such as mix.mixup=0");
  if (!line.parse(arguments)) return 0;

  const Recipe recipe = Recipe::load(recipe_file, overrides);
  const ShardSet shards(data, split);
  const std::int64_t steps = steps_per_epoch(shards.size(), recipe.train.global_batch);
  count = std::min(count, recipe.train.global_batch);
  const bool mixes = recipe.mix.mixes();
  if (mixes) count += count % 2;  // a sample's partner comes with it

  bool asked = false;
  Loader loader(shards, loader_config(recipe), [&]() -> std::optional<BatchRequest> {
    if (std::exchange(asked, true)) return std::nullopt;
    return BatchRequest{static_cast<std::uint32_t>(step / steps), step % steps * recipe.train.global_batch, count,
                        true};
  });
  const Batch batch = *loader.next();
  const bool off = recipe.mix.off_epoch > 0 && step / steps >= recipe.mix.off_epoch;
  std::vector<MixGroup> groups = draw_groups(recipe, static_cast<std::uint32_t>(step), count);
  if (!mixes || off) groups.assign(groups.size(), MixGroup{});
  const StepRecord record{.seed = recipe.seed, .step = static_cast<std::uint32_t>(step)};
  const MixSettings settings{.normalization = normalization(recipe),
                             .classes = static_cast<std::int64_t>(shards.class_names().size()),
                             .group = mix_group(recipe),
                             .groups = mixes ? groups.data() : nullptr,
                             .record = &record,
                             .erased = batch.erased};
  const MixedBatch mixed = mix_images(batch.images, batch.labels, settings, DType::kFloat32);
  Sheet sheet(recipe, count, columns);
  for (std::int64_t row = 0; row < count; ++row) {
    const float* x = mixed.x.data<float>() + row * recipe.model.height * recipe.model.width * 3;
    sheet.place(row, x, caption(batch, shards.class_names(), row, groups[row / mix_group(recipe)]));
  }
  AtomicFile file(output);
  file.write(0, encode_png(sheet.image()));
  file.finish();
  file.publish();
  std::cout << output << ": " << count << " samples of step " << step << "\n";
  return 0;
}

}  // namespace qm
