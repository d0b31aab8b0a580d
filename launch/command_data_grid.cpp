// quadmamba data-grid: what the network is shown, as a PNG: samples of training steps after augmentation, erasing and
// mixing, or those of an evaluation.
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

/// Samples that are read and drawn at a time: even, so that those mixed with one another come together.
constexpr std::int64_t kAtATime = 64;

struct Part {
  BatchRequest request;
  std::int64_t shown = 0;                     // of the request's samples, the first so many
  std::int64_t step = 0, first_position = 0;  // of a training request, and its place in the step's global batch
};

/// The first `count` samples of an evaluation.
std::vector<Part> evaluation_parts(std::int64_t count) {
  std::vector<Part> parts;
  for (std::int64_t first = 0; first < count; first += kAtATime) {
    const std::int64_t shown = std::min(kAtATime, count - first);
    parts.push_back({{0, first, shown, false}, shown});
  }
  return parts;
}

/// The first `count` samples of the steps from `step` on a set of so many images.
std::vector<Part> training_parts(const Recipe& recipe, std::int64_t images, std::int64_t step, std::int64_t count) {
  const std::int64_t batch = recipe.train.global_batch, steps = steps_per_epoch(images, batch);
  std::vector<Part> parts;
  for (std::int64_t left = count; left > 0; ++step) {
    for (std::int64_t first = 0; first < batch && left > 0; first += kAtATime) {
      const std::int64_t shown = std::min({kAtATime, batch - first, left});
      const std::int64_t needed = shown + (recipe.mix.mixes() ? shown % 2 : 0);  // a sample's partner comes with it
      parts.push_back(
          {{static_cast<std::uint32_t>(step / steps), step % steps * batch + first, needed, true}, shown, step, first});
      left -= shown;
    }
  }
  return parts;
}

/// The draws of mixup and cutmix for a step's global batch; empty where it is not mixed.
std::vector<MixGroup> draw_groups(const Recipe& recipe, const Part& part) {
  std::vector<MixGroup> groups;
  const bool off = recipe.mix.off_epoch > 0 && part.request.epoch >= recipe.mix.off_epoch;
  if (!part.request.training || !recipe.mix.mixes() || off) return groups;
  for (std::int64_t first = 0; first < recipe.train.global_batch; first += mix_group(recipe)) {
    groups.push_back(draw_mix(mix_config(recipe), recipe.seed, static_cast<std::uint32_t>(part.step),
                              static_cast<std::uint32_t>(groups.size()), recipe.model.height, recipe.model.width));
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
  /// Throws ConfigError, before memory is asked for, where no PNG holds so many samples.
  Sheet(const Recipe& recipe, std::int64_t count, std::int64_t columns)
      : recipe_(recipe),
        columns_(columns),
        tile_height_(recipe.model.height + 2 * kLine + 2 * kMargin),
        tile_width_(recipe.model.width + 2 * kMargin) {
    image_.height = (count + columns - 1) / columns * tile_height_;
    image_.width = std::min(count, columns) * tile_width_;
    QM_CHECK(std::max(image_.height, image_.width) <= kMaxPngSide && image_.height * image_.width <= kMaxPixels,
             ConfigError, "--count ", count, " --columns ", columns, ": a sheet of ", image_.height, " x ",
             image_.width, " pixels: at most ", kMaxPixels, " in all and ", kMaxPngSide, " a side can be written");
    image_.pixels.resize(static_cast<std::size_t>(image_.height * image_.width * 3));
  }

  /// Draws the next sample.
  void add(const float* x, const std::vector<std::string>& lines) {
    const std::int64_t index = drawn_++;
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
  std::int64_t drawn_ = 0;
  Image image_;
};

void draw(const Recipe& recipe, const ShardSet& shards, const std::vector<Part>& parts, Sheet& sheet) {
  const std::vector<std::string>& names = shards.class_names();
  const std::int64_t values = recipe.model.height * recipe.model.width * 3;
  auto next = parts.begin();
  Loader loader(shards, loader_config(recipe), [&]() -> std::optional<BatchRequest> {
    if (next == parts.end()) return std::nullopt;
    return (next++)->request;
  });
  for (const Part& part : parts) {
    const Batch batch = *loader.next();
    const std::vector<MixGroup> groups = draw_groups(recipe, part);
    const StepRecord record{.seed = recipe.seed,
                            .step = static_cast<std::uint32_t>(part.step),
                            .first_position = static_cast<std::uint32_t>(part.first_position)};
    const MixSettings settings{.normalization = normalization(recipe),
                               .classes = static_cast<std::int64_t>(names.size()),
                               .group = mix_group(recipe),
                               .groups = groups.empty() ? nullptr : groups.data(),
                               .record = &record,
                               .erased = batch.erased};
    const Tensor x = mix_images(batch.images, batch.labels, settings, DType::kFloat32).x;
    for (std::int64_t row = 0; row < part.shown; ++row) {
      const std::int64_t group = (part.first_position + row) / mix_group(recipe);
      const MixGroup mix = groups.empty() ? MixGroup{} : groups[static_cast<std::size_t>(group)];
      sheet.add(x.data<float>() + row * values, caption(batch, names, row, mix));
    }
  }
}

/// "step 7", "steps 7 to 9", "an evaluation on split val"
std::string name_of(const std::vector<Part>& parts, const std::string& split) {
  const Part &first = parts.front(), &last = parts.back();
  if (!first.request.training) return "an evaluation on split " + split;
  if (first.step == last.step) return concat("step ", first.step);
  return concat("steps ", first.step, " to ", last.step);
}

}  // namespace

int run_data_grid(std::span<const std::string> arguments, const Environment&) {
  std::string recipe_file, data, split = "train", output;
  std::int64_t count = 32, columns = 8, step = 0;
  std::vector<std::string> overrides;
  CommandLine line(
      "data-grid",
      "Draws samples as the network sees them, with their labels: the first of a training step and, beyond\n"
      "its batch, of those after it, augmented, erased and mixed, the very pixels of a run with this recipe\n"
      "and seed; of another split than train, the first of an evaluation.");
  line.positional("RECIPE", recipe_file, "a TOML file; see recipes/");
  line.required_option("data", "DIR", data, "folder with the shards");
  line.required_option("output", "FILE", output, "the PNG");
  line.option("split", "NAME", split, "train, as it is trained on, or another, as it is evaluated");
  line.option("step", "N", step, {0, 1'000'000'000}, "the training step, from 0");
  line.option("count", "N", count, {1, 4096}, "samples");
  line.option("columns", "N", columns, {1, 256}, "samples in a row");
  line.assignments("set", overrides, "replace a key of the recipe, such as mix.mixup=0");
  if (!line.parse(arguments)) return 0;

  const bool trains = split == "train";
  QM_CHECK(trains || step == 0, UsageError, "data-grid: --step ", step, ": an evaluation, as of split ", split,
           ", has no steps");
  const Recipe recipe = Recipe::load(recipe_file, overrides);
  Sheet sheet(recipe, count, columns);
  const ShardSet shards(data, split);
  QM_CHECK(trains || count <= shards.size(), ConfigError, "--count ", count, ": split ", split, " in ", data, " holds ",
           shards.size(), " images");
  const std::vector<Part> parts = trains ? training_parts(recipe, shards.size(), step, count) : evaluation_parts(count);
  draw(recipe, shards, parts, sheet);
  AtomicFile file(output);
  file.write(0, encode_png(sheet.image()));
  file.finish();
  file.publish();
  std::cout << output << ": " << count << " samples of " << name_of(parts, split) << "\n";
  return 0;
}

}  // namespace qm
