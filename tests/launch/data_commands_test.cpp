// bench data and data-grid, on a small project.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "data/image.h"
#include "data/shard.h"
#include "launch/factory.h"
#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

/// The arguments of data-grid that draw the project's samples to `file`, then `more`.
Strings grid_arguments(const SmallProject& project, const std::string& file, const Strings& more) {
  Strings arguments = {"data-grid", project.recipe(), "--data", project.data(), "--output", project / file};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

Image drawn(const SmallProject& project, const Strings& more) {
  const ProgramResult result = run_quadmamba(grid_arguments(project, "sheet.png", more));
  EXPECT_EQ(result.exit_code, 0) << result.describe();
  return decode_image(bytes_of_file(project / "sheet.png"));
}

/// The image of the sample at `index` in a sheet of `columns`, without margin and caption.
std::vector<std::uint8_t> tile_of(const Image& sheet, const Recipe& recipe, std::int64_t index, std::int64_t columns) {
  constexpr std::int64_t kMargin = 2, kCaption = 2 * 9;
  const std::int64_t height = recipe.model.height, width = recipe.model.width;
  const std::int64_t top = index / columns * (height + 2 * kMargin + kCaption) + kMargin;
  const std::int64_t left = index % columns * (width + 2 * kMargin) + kMargin;
  std::vector<std::uint8_t> pixels;
  for (std::int64_t y = top; y < top + height; ++y) {
    const auto row = sheet.pixels.begin() + (y * sheet.width + left) * 3;
    pixels.insert(pixels.end(), row, row + width * 3);
  }
  return pixels;
}

TEST(launch, data_grid_draws_the_samples_of_a_step) {
  const SmallProject project;
  const auto draw = [&](const char* step) {
    return drawn(project, {"--count", "5", "--columns", "4", "--step", step});
  };
  const Image first = draw("0");
  EXPECT_EQ(first.height % 2, 0);  // two rows of tiles
  EXPECT_EQ(first.width % 4, 0);
  EXPECT_EQ(draw("0").pixels, first.pixels);
  EXPECT_NE(draw("7").pixels, first.pixels);
  // The fifth is mixed with a sixth, which nobody asked for.
  const Recipe recipe = Recipe::load(project.recipe());
  EXPECT_EQ(tile_of(first, recipe, 5, 4), std::vector<std::uint8_t>(recipe.model.height * recipe.model.width * 3));
}

/// What a global batch is to the network, as pixels: computed whole.
std::vector<std::uint8_t> shown_in_step(const Recipe& recipe, const ShardSet& shards, std::int64_t step) {
  const std::int64_t count = recipe.train.global_batch, steps = shards.size() / count;
  bool asked = false;
  Loader loader(shards, loader_config(recipe), [&]() -> std::optional<BatchRequest> {
    if (std::exchange(asked, true)) return std::nullopt;
    return BatchRequest{static_cast<std::uint32_t>(step / steps), step % steps * count, count, true};
  });
  const Batch batch = *loader.next();
  std::vector<MixGroup> groups;
  for (std::int64_t first = 0; first < count; first += mix_group(recipe)) {
    groups.push_back(draw_mix(mix_config(recipe), recipe.seed, static_cast<std::uint32_t>(step),
                              static_cast<std::uint32_t>(groups.size()), recipe.model.height, recipe.model.width));
  }
  const StepRecord record{.seed = recipe.seed, .step = static_cast<std::uint32_t>(step)};
  const MixSettings settings{.normalization = normalization(recipe),
                             .classes = recipe.model.classes,
                             .group = mix_group(recipe),
                             .groups = groups.data(),
                             .record = &record,
                             .erased = batch.erased};
  const std::vector<float> x = mix_images(batch.images, batch.labels, settings, DType::kFloat32).x.to_vector<float>();
  std::vector<std::uint8_t> pixels;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double value = (x[i] * recipe.data.std[i % 3] + recipe.data.mean[i % 3]) * 255;
    pixels.push_back(static_cast<std::uint8_t>(std::clamp(std::nearbyint(value), 0.0, 255.0)));
  }
  return pixels;
}

// More than is read at a time and than one step has, and steps within an epoch and over its end.
TEST(launch, data_grid_draws_the_very_pixels_of_one_step_after_the_other) {
  constexpr std::int64_t kCount = 100, kColumns = 7, kStep = 3;
  const SmallProject project;
  const ShardSet shards(project.data(), "train");
  for (const char* batch : {"train.global_batch=90", "train.global_batch=24"}) {
    const Strings settings = {batch, "mix.group=6"};
    const Image sheet = drawn(
        project, {"--count", "100", "--columns", "7", "--step", "3", "--set=" + settings[0], "--set=" + settings[1]});
    const Recipe recipe = Recipe::load(project.recipe(), settings);
    const std::int64_t size = recipe.model.height * recipe.model.width * 3;
    std::vector<std::uint8_t> expected;
    for (std::int64_t step = kStep; std::ssize(expected) < kCount * size; ++step) {
      const std::vector<std::uint8_t> shown = shown_in_step(recipe, shards, step);
      expected.insert(expected.end(), shown.begin(), shown.end());
    }
    for (std::int64_t i = 0; i < kCount; ++i) {
      const auto own = expected.begin() + i * size;
      EXPECT_EQ(tile_of(sheet, recipe, i, kColumns), std::vector<std::uint8_t>(own, own + size))
          << batch << ", sample " << i;
    }
  }
}

TEST(launch, data_grid_draws_another_split_as_it_is_evaluated) {
  const SmallProject project;
  const Image sheet = drawn(project, {"--split", "val", "--count", "23", "--columns", "6"});
  const Recipe recipe = Recipe::load(project.recipe());
  const ShardSet shards(project.data(), "val");
  std::vector<std::uint8_t> encoded, expected(recipe.model.height * recipe.model.width * 3);
  for (std::int64_t i = 0; i < shards.size(); ++i) {
    shards.read(i, encoded);
    transform_eval(decode_image(encoded), loader_config(recipe).eval, recipe.model.height, recipe.model.width,
                   expected.data());
    EXPECT_EQ(tile_of(sheet, recipe, i, 6), expected) << "sample " << i;
  }
}

// The tests above make their loader of the same words, so they cannot tell.
TEST(launch, the_loader_augments_as_the_recipe_says) {
  const SmallProject project;
  const auto augment_with = [&](const Strings& settings) {
    return loader_config(Recipe::load(project.recipe(), settings)).augment;
  };
  const AugmentConfig bilinear = augment_with({"data.mean=[0.485, 0.456, 0.406]", "augment.interpolation=bilinear"});
  EXPECT_EQ(bilinear.rand_augment.fill, (std::array<std::uint8_t, 3>{124, 116, 104}));  // the mean colour, as timm
  EXPECT_EQ(bilinear.interpolation, Interpolation::kBilinear);
  EXPECT_FALSE(bilinear.random_interpolation);
  EXPECT_EQ(augment_with({"augment.interpolation=bicubic"}).interpolation, Interpolation::kBicubic);
  EXPECT_TRUE(augment_with({"augment.interpolation=random"}).random_interpolation);
}

TEST(launch, data_grid_refuses_what_it_cannot_draw) {
  const SmallProject project;
  const auto refused = [&](const std::string& file, const Strings& more, const Strings& parts) {
    expect_refused(run_quadmamba(grid_arguments(project, file, more)), parts);
    EXPECT_FALSE(std::filesystem::exists(project / file));
    EXPECT_FALSE(std::filesystem::exists((project / file) + ".tmp"));
  };
  refused("missing/a.png", {}, {project / "missing/a.png"});
  refused("a.png", {"--split", "trian"}, {project.data(), "holds no shards of split 'trian'"});
  refused("a.png", {"--split", "val", "--count", "24"}, {"--count 24", "split val", project.data(), "23 images"});
  refused("a.png", {"--split", "val", "--step", "1"}, {"--step 1", "split val"});
  refused("a.png", {"--set", "train.global_batch=128"}, {"120 training samples", "global batch of 128"});
  refused("a.png", {"--set", "train.global_batch=23"}, {"train.global_batch", "even", "23"});
  // Too many pixels, and too many rows of them.
  refused("a.png", {"--set", "model.image_size=1024", "--count", "1000"},
          {"--count 1000 --columns 8", "130750 x 8224 pixels", "268435456"});
  refused("a.png", {"--set", "model.image_size=[256, 32]", "--count", "4096", "--columns", "1"},
          {"--count 4096 --columns 1", "1138688 x 36 pixels", "1000000 a side"});
}

TEST(launch, bench_ops_prints_the_operations_of_a_step) {
  SmallProject project;
  const std::vector<std::string> arguments = {"bench", "ops", project.recipe(), "--device", "cpu", "--steps", "2"};
  const ProgramResult table = run_quadmamba(arguments);
  EXPECT_EQ(table.exit_code, 0) << table.describe();
  for (const char* operation : {"quad_scan_forward", "cross_scan_backward", "linear_backward", "adamw_step"}) {
    EXPECT_NE(table.out.find(operation), std::string::npos) << table.describe();
  }
  std::vector<std::string> as_json = arguments;
  as_json.push_back("--json");
  const ProgramResult json = run_quadmamba(as_json);
  EXPECT_EQ(json.exit_code, 0) << json.describe();
  EXPECT_NE(json.out.find("{\"op\": \"adamw_step\", \"calls\": 1.0,"), std::string::npos) << json.describe();
}

TEST(launch, bench_data_prints_every_part) {
  const SmallProject project;
  const ProgramResult result = run_quadmamba({"bench", "data", project.recipe(), "--data", project.data(), "--threads",
                                              "2", "--seconds", "1", "--batch", "16", "--device", "cpu"});
  EXPECT_EQ(result.exit_code, 0) << result.describe();
  for (const char* part : {"read", "decode the crop", "resize", "augment", "all of these", "read and decode whole",
                           "loader, to tensors on cpu"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << result.describe();
  }
  expect_refused(run_quadmamba({"bench", "data", project.recipe(), "--data", project.data(), "--batch", "121"}),
                 {"--batch 121", project.data(), "120 images"});
  const ProgramResult other = run_quadmamba({"bench", "nets", project.recipe(), "--data", project.data()});
  EXPECT_EQ(other.exit_code, 2) << other.describe();
}

TEST(launch, bench_data_names_a_damaged_sample) {
  const SmallProject project;
  const std::string shard = project.data() + "/train-00001-of-00002.h5";
  std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
  ASSERT_TRUE(file) << shard;
  file.seekg(0, std::ios::end);
  const std::streamoff size = file.tellg();
  for (std::streamoff at = size / 3; at < size / 2; at += 64) file.seekp(at).write("ZZZZ", 4);
  file.close();
  expect_refused(run_quadmamba({"bench", "data", project.recipe(), "--data", project.data(), "--threads", "2",
                                "--seconds", "5", "--batch", "8", "--device", "cpu"}),
                 {shard});
}

}  // namespace
}  // namespace qm
