#include "recipes/recipe.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/base/error.h"

namespace {

using qm::Recipe;

/// The shortest recipe. Each table is open for more: lines appended belong to [schedule], and overrides reach the rest.
const std::string kMinimal = R"([model]
size = "nano"
classes = 10
image_size = 64
[train]
global_batch = 64
epochs = 10
[optimizer]
learning_rate = 1e-3
[schedule]
)";

Recipe minimal(const std::vector<std::string>& overrides) {
  return Recipe::parse(kMinimal, "r.toml", overrides);
}

/// kMinimal with the first occurrence of `line` replaced.
std::string minimal_with(const std::string& line, const std::string& replacement) {
  std::string text = kMinimal;
  const auto at = text.find(line + "\n");
  if (at == std::string::npos) throw std::logic_error("no such line: " + line);
  return text.replace(at, line.size(), replacement);
}

std::string error_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    Recipe::parse(text, "r.toml", overrides);
  } catch (const qm::ConfigError& error) {
    return error.what();
  }
  return "no error";
}

std::string override_error(const std::string& setting) {
  return error_of(kMinimal, {setting});
}

std::string recipe_file(const std::string& name) {
  return std::string(QM_SOURCE_DIR) + "/recipes/" + name;
}

/// A recipe that differs from the defaults in every field that can be given beside the others.
const char* const kEverything = R"(
name = "all \"of\" it\tand\u0001 ünïcode\\"
seed = 9223372036854775807
precision = "bf16"
[model]
dim = 34
depths = [1, 2, 3, 4]
state_size = 16
fine_order = "window_raster"
classes = 17
drop_path = 0.1
stem_filters = "stratified"
image_size = [96, 33]
[data]
path = "/some where/shards"
mean = [0.1, 0.2, 0.30000000000000004]
std = [1, 0.001, 0.3]
threads = 3
prefetch = 7
shuffle = "window"
shuffle_window = 4096
dct_scaling = true
[augment]
crop = "resized"
area = [0.2, 0.9]
ratio = [0.5, 2]
flip = 0.5
interpolation = "random"
rand_augment = "rand-m9-mstd0.5-inc1"
color_jitter = [0.4, 0.3, 0.2, 0.1]
color_jitter_probability = 0.8
erase_probability = 0.25
erase_fill = "rand"
erase_count = 3
repeats = 2
[mix]
mixup = 0.8
cutmix = 1
cutmix_minmax = [0.2, 0.75]
probability = 0.9
switch_probability = 0.25
group = 8
mode = "pair"
off_epoch = 250
[train]
global_batch = 48
micro_batch = 12
epochs = 300
max_steps = 1000
label_smoothing = 0.1
clip_grad_norm = 0.3333333333333333
ema_decay = 0.9999
log_every = 5
not_finite = "skip"
[optimizer]
base_learning_rate = 5e-4
weight_decay = 0.06
beta1 = 0.91
beta2 = 0.99
epsilon = 1e-9
[schedule]
warmup_epochs = 0.5
warmup_learning_rate = 5e-7
min_learning_rate = 5e-6
[eval]
every_epochs = 2
batch = 50
resize = 100
interpolation = "bilinear"
[checkpoint]
every_steps = 100
every_epochs = 3
keep_last = 5
)";

TEST(recipes, every_field_is_read) {
  const Recipe r = Recipe::parse(kEverything, "dir/file.toml");
  EXPECT_EQ(r.name, "all \"of\" it\tand\x01 ünïcode\\");
  EXPECT_EQ(r.seed, 9223372036854775807u);
  EXPECT_EQ(r.precision, qm::Precision::kBf16);
  EXPECT_EQ(r.model.size, "");
  EXPECT_EQ(r.model.dim, 34);
  EXPECT_EQ(r.model.depths, (std::array<std::int64_t, 4>{1, 2, 3, 4}));
  EXPECT_EQ(r.model.state_size, 16);
  EXPECT_EQ(r.model.fine_order, qm::FineOrderKey::kWindowRaster);
  EXPECT_EQ(r.model.classes, 17);
  EXPECT_EQ(r.model.drop_path, 0.1);
  EXPECT_EQ(r.model.stem_filters, qm::StemFilters::kStratified);
  EXPECT_EQ(r.model.height, 96);
  EXPECT_EQ(r.model.width, 33);
  EXPECT_EQ(r.data.path, "/some where/shards");
  EXPECT_EQ(r.data.mean, (std::array<double, 3>{0.1, 0.2, 0.30000000000000004}));
  EXPECT_EQ(r.data.std, (std::array<double, 3>{1, 0.001, 0.3}));
  EXPECT_EQ(r.data.threads, 3);
  EXPECT_EQ(r.data.prefetch, 7);
  EXPECT_EQ(r.data.shuffle, "window");
  EXPECT_EQ(r.data.shuffle_window, 4096);
  EXPECT_TRUE(r.data.dct_scaling);
  EXPECT_EQ(r.augment.crop, "resized");
  EXPECT_EQ(minimal({"augment.crop=pad", "augment.padding=4"}).augment.padding, 4);
  EXPECT_EQ(r.augment.area, (std::array<double, 2>{0.2, 0.9}));
  EXPECT_EQ(r.augment.ratio, (std::array<double, 2>{0.5, 2}));
  EXPECT_EQ(r.augment.flip, 0.5);
  EXPECT_EQ(r.augment.interpolation, qm::Resampling::kRandom);
  EXPECT_EQ(r.augment.rand_augment, "rand-m9-mstd0.5-inc1");
  EXPECT_EQ(r.augment.color_jitter, (std::array<double, 4>{0.4, 0.3, 0.2, 0.1}));
  EXPECT_EQ(r.augment.color_jitter_probability, 0.8);
  EXPECT_EQ(r.augment.erase_probability, 0.25);
  EXPECT_EQ(r.augment.erase_fill, "rand");
  EXPECT_EQ(r.augment.erase_count, 3);
  EXPECT_EQ(r.augment.repeats, 2);
  EXPECT_EQ(r.mix.mixup, 0.8);
  EXPECT_EQ(r.mix.cutmix, 1);
  EXPECT_EQ(r.mix.cutmix_minmax, (std::array<double, 2>{0.2, 0.75}));
  EXPECT_EQ(r.mix.probability, 0.9);
  EXPECT_EQ(r.mix.switch_probability, 0.25);
  EXPECT_EQ(r.mix.group, 8);
  EXPECT_EQ(r.mix.mode, "pair");
  EXPECT_EQ(r.mix.off_epoch, 250);
  EXPECT_EQ(r.train.global_batch, 48);
  EXPECT_EQ(r.train.micro_batch, 12);
  EXPECT_EQ(r.train.epochs, 300);
  EXPECT_EQ(r.train.max_steps, 1000);
  EXPECT_EQ(r.train.label_smoothing, 0.1);
  EXPECT_EQ(r.train.clip_grad_norm, 0.3333333333333333);
  EXPECT_EQ(r.train.ema_decay, 0.9999);
  EXPECT_EQ(r.train.log_every, 5);
  EXPECT_EQ(r.train.not_finite, qm::NotFinite::kSkip);
  EXPECT_EQ(r.optimizer.learning_rate, 0);
  EXPECT_EQ(r.optimizer.base_learning_rate, 5e-4);
  EXPECT_EQ(r.optimizer.weight_decay, 0.06);
  EXPECT_EQ(r.optimizer.beta1, 0.91);
  EXPECT_EQ(r.optimizer.beta2, 0.99);
  EXPECT_EQ(r.optimizer.epsilon, 1e-9);
  EXPECT_EQ(r.schedule.warmup_epochs, 0.5);
  EXPECT_EQ(r.schedule.warmup_learning_rate, 5e-7);
  EXPECT_EQ(r.schedule.min_learning_rate, 5e-6);
  EXPECT_EQ(r.eval.every_epochs, 2);
  EXPECT_EQ(r.eval.batch, 50);
  EXPECT_EQ(r.eval.resize, 100);
  EXPECT_EQ(r.eval.interpolation, qm::Resampling::kBilinear);
  EXPECT_EQ(r.checkpoint.every_steps, 100);
  EXPECT_EQ(r.checkpoint.every_epochs, 3);
  EXPECT_EQ(r.checkpoint.keep_last, 5);
}

TEST(recipes, round_trip) {
  const Recipe everything = Recipe::parse(kEverything, "dir/file.toml");
  EXPECT_EQ(Recipe::parse(everything.to_toml(), "other.toml"), everything) << everything.to_toml();
  const Recipe by_size = minimal({});
  EXPECT_EQ(Recipe::parse(by_size.to_toml(), "other.toml"), by_size) << by_size.to_toml();
  EXPECT_NE(everything, by_size);
  const Recipe by_share = minimal({"eval.crop_pct=0.875"});
  EXPECT_EQ(Recipe::parse(by_share.to_toml(), "other.toml"), by_share) << by_share.to_toml();
}

TEST(recipes, defaults) {
  const Recipe recipe = Recipe::parse(kMinimal, "some/where/my_run.toml");
  Recipe expected;
  expected.name = "my_run";
  expected.model.size = "nano";
  expected.model.dim = 16;
  expected.model.depths = {2, 2, 2, 2};
  expected.model.classes = 10;
  expected.model.height = expected.model.width = 64;
  expected.train.global_batch = 64;
  expected.train.epochs = 10;
  expected.optimizer.learning_rate = 1e-3;
  EXPECT_EQ(recipe, expected);
}

TEST(recipes, sizes) {
  const auto dim_and_depth2 = [](const char* size) {
    const Recipe recipe = minimal({std::string("model.size=") + size});
    return std::pair(recipe.model.dim, recipe.model.depths[2]);
  };
  EXPECT_EQ(dim_and_depth2("nano"), std::pair(16L, 2L));
  EXPECT_EQ(dim_and_depth2("lite"), std::pair(48L, 2L));
  EXPECT_EQ(dim_and_depth2("tiny"), std::pair(64L, 2L));
  EXPECT_EQ(dim_and_depth2("small"), std::pair(96L, 5L));
  EXPECT_EQ(dim_and_depth2("base"), std::pair(96L, 15L));
}

TEST(recipes, learning_rates_scale_with_the_batch) {
  const Recipe scaled = Recipe::parse(
      minimal_with("learning_rate = 1e-3", "base_learning_rate = 5e-4"), "r.toml",
      {"train.global_batch=1024", "schedule.warmup_learning_rate=5e-7", "schedule.min_learning_rate=5e-6"});
  EXPECT_DOUBLE_EQ(scaled.peak_learning_rate(), 1e-3);
  EXPECT_DOUBLE_EQ(scaled.first_learning_rate(), 1e-6);
  EXPECT_DOUBLE_EQ(scaled.last_learning_rate(), 1e-5);
  const Recipe fixed =
      minimal({"train.global_batch=1024", "schedule.warmup_learning_rate=5e-7", "schedule.min_learning_rate=5e-6"});
  EXPECT_EQ(fixed.peak_learning_rate(), 1e-3);
  EXPECT_EQ(fixed.first_learning_rate(), 5e-7);
  EXPECT_EQ(fixed.last_learning_rate(), 5e-6);
}

TEST(recipes, every_recipe_file_loads_and_opens_with_its_head) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(recipe_file(""))) {
    if (entry.path().extension() != ".toml") continue;
    SCOPED_TRACE(entry.path());
    ++files;
    Recipe recipe;
    ASSERT_NO_THROW(recipe = Recipe::load(entry.path().string()));
    EXPECT_EQ(recipe.name, entry.path().stem());
    EXPECT_EQ(Recipe::parse(recipe.to_toml(), "copy.toml"), recipe);

    std::ifstream stream(entry.path());
    const std::string text(std::istreambuf_iterator<char>(stream), {});
    const std::string head = text.substr(0, text.find("\n\n"));
    for (const char* part : {"# Budget:", "# Expected:", "# Command:"}) EXPECT_NE(head.find(part), head.npos) << part;
    EXPECT_NE(head.find("quadmamba train recipes/" + entry.path().filename().string()), head.npos);
  }
  EXPECT_GE(files, 7);
}

TEST(recipes, imagenet_small_is_the_published_recipe) {
  const Recipe recipe = Recipe::load(recipe_file("imagenet_small.toml"));
  EXPECT_EQ(recipe.train.global_batch, 8 * 128);
  EXPECT_EQ(recipe.train.epochs, 300);
  EXPECT_DOUBLE_EQ(recipe.peak_learning_rate(), 1e-3);
  EXPECT_DOUBLE_EQ(recipe.first_learning_rate(), 1e-6);
  EXPECT_DOUBLE_EQ(recipe.last_learning_rate(), 1e-5);
  EXPECT_EQ(recipe.model.drop_path, 0.2);
  EXPECT_EQ(recipe.mix.group, 128);
  EXPECT_EQ(recipe.train.ema_decay, 0.9999);
}

TEST(recipes, every_imagenet_recipe_has_the_published_stem_and_augmentation) {
  for (const char* size : {"lite", "tiny", "small", "base"}) {
    const Recipe recipe = Recipe::load(recipe_file(std::string("imagenet_") + size + ".toml"));
    EXPECT_EQ(recipe.model.stem_filters, qm::StemFilters::kIndependent);
    EXPECT_EQ(recipe.augment.crop, "resized");
    EXPECT_EQ(recipe.augment.flip, 0.5);
    EXPECT_EQ(recipe.augment.interpolation, qm::Resampling::kBicubic);
    EXPECT_EQ(recipe.augment.rand_augment, "rand-m9-mstd0.5-inc1");
    EXPECT_EQ(recipe.augment.color_jitter, (std::array<double, 4>{}));  // timm leaves it out beside RandAugment
    EXPECT_EQ(recipe.augment.erase_probability, 0.25);
    EXPECT_EQ(recipe.augment.erase_fill, "pixel");
    EXPECT_EQ(recipe.augment.erase_count, 1);
    EXPECT_EQ(recipe.mix.mixup, 0.8);
    EXPECT_EQ(recipe.mix.cutmix, 1.0);
    EXPECT_EQ(recipe.mix.mode, "batch");
    EXPECT_EQ(recipe.eval.short_side(224), 256);
  }
}

TEST(recipes, crop_pct_takes_the_place_of_a_resize_that_is_set_to_none) {
  const Recipe recipe = minimal({"eval.resize=72", "eval.resize=0", "eval.crop_pct=0.5"});
  EXPECT_EQ(recipe.eval.short_side(64), 128);
}

TEST(recipes, crop_pct_gives_the_short_side) {
  EXPECT_EQ(minimal({"eval.crop_pct=0.875"}).eval.short_side(224), 256);
  EXPECT_EQ(minimal({"eval.crop_pct=0.9"}).eval.short_side(224), 248);
  EXPECT_EQ(minimal({"eval.crop_pct=1"}).eval.short_side(224), 224);
  EXPECT_EQ(minimal({"eval.resize=70"}).eval.short_side(64), 70);
  EXPECT_EQ(minimal({}).eval.short_side(64), 0);
}

TEST(recipes, unknown_keys) {
  EXPECT_EQ(error_of(kMinimal + "warmup_epoch = 1\n"),
            "r.toml:11: unknown key 'schedule.warmup_epoch' (did you mean 'schedule.warmup_epochs'?)");
  EXPECT_EQ(error_of(kMinimal + "weight_decay = 1\n"),
            "r.toml:11: unknown key 'schedule.weight_decay' (did you mean 'optimizer.weight_decay'?)");
  EXPECT_EQ(error_of(kMinimal + "xylophone = 1\n"), "r.toml:11: unknown key 'schedule.xylophone'");
  EXPECT_EQ(error_of("epochs = 3\n" + kMinimal), "r.toml:1: unknown key 'epochs' (did you mean 'train.epochs'?)");
  EXPECT_EQ(error_of("\"train.epochs\" = 3\n" + kMinimal),
            "r.toml:1: unknown key '\"train.epochs\"' (did you mean 'train.epochs'?)");
  EXPECT_EQ(error_of(kMinimal + "[optimiser]\nbeta1 = 0.5\n"),
            "r.toml:11: unknown table 'optimiser' (did you mean 'optimizer'?)");
  EXPECT_EQ(error_of(kMinimal + "[empty]\n"), "r.toml:11: unknown table 'empty'");
  EXPECT_EQ(error_of(kMinimal + "[train.more]\n"), "r.toml:11: unknown table 'train.more'");
}

TEST(recipes, the_first_unknown_key_of_the_file_is_named) {
  EXPECT_EQ(error_of("zebra = 1\nape = 2\n" + kMinimal), "r.toml:1: unknown key 'zebra'");
}

TEST(recipes, wrong_types) {
  EXPECT_EQ(error_of(minimal_with("epochs = 10", "epochs = \"x\"")),
            "r.toml:7: train.epochs: expected integer, got string \"x\"");
  EXPECT_EQ(error_of(minimal_with("epochs = 10", "epochs = 10.0")),
            "r.toml:7: train.epochs: expected integer, got float 10.0");
  EXPECT_EQ(error_of(minimal_with("epochs = 10", "epochs = true")),
            "r.toml:7: train.epochs: expected integer, got boolean true");
  EXPECT_EQ(error_of(minimal_with("epochs = 10", "epochs = 2024-01-01")),
            "r.toml:7: train.epochs: expected integer, got date");
  EXPECT_EQ(error_of(minimal_with("epochs = 10", "epochs = {}")),
            "r.toml:7: train.epochs: expected integer, got table");
  EXPECT_EQ(error_of(minimal_with("learning_rate = 1e-3", "learning_rate = \"1e-3\"")),
            "r.toml:9: optimizer.learning_rate: expected number, got string \"1e-3\"");
  EXPECT_EQ(error_of("name = 7\n" + kMinimal), "r.toml:1: name: expected string, got integer 7");
  EXPECT_EQ(error_of("precision = 16\n" + kMinimal), "r.toml:1: precision: expected string, got integer 16");
  EXPECT_EQ(error_of("seed = 1.5\n" + kMinimal), "r.toml:1: seed: expected integer, got float 1.5");
  EXPECT_EQ(error_of("mix = 3\n" + kMinimal), "r.toml:1: mix: expected table, got integer 3");
  EXPECT_EQ(error_of(kMinimal + "[[mix]]\n"), "r.toml:11: mix: expected table, got array");
  EXPECT_EQ(override_error("data.mean=0.5"), "--set data.mean=0.5: data.mean: expected array of 3, got float 0.5");
  EXPECT_EQ(override_error("data.mean=[1,2]"), "--set data.mean=[1,2]: data.mean: expected array of 3, got array of 2");
  EXPECT_EQ(override_error("data.mean=[1,0.2,\"3\"]"),
            "--set data.mean=[1,0.2,\"3\"]: data.mean: expected number, got string \"3\"");
  EXPECT_EQ(error_of(minimal_with("image_size = 64", "image_size = [64]")),
            "r.toml:4: model.image_size: expected integer or [height, width], got array");
}

TEST(recipes, values_out_of_range) {
  EXPECT_EQ(error_of(minimal_with("classes = 10", "classes = 0")),
            "r.toml:3: model.classes: expected at least 1, got 0");
  EXPECT_EQ(error_of(minimal_with("image_size = 64", "image_size = 31")),
            "r.toml:4: model.image_size: expected 32 to 65536, got 31");
  EXPECT_EQ(error_of(minimal_with("image_size = 64", "image_size = [64, 31]")),
            "r.toml:4: model.image_size: expected 32 to 65536, got 31");
  EXPECT_EQ(error_of(minimal_with("size = \"nano\"", "size = \"huge\"")),
            "r.toml:2: model.size: expected \"nano\", \"lite\", \"tiny\", \"small\" or \"base\", got \"huge\"");
  EXPECT_EQ(error_of("precision = \"fp16\"\n" + kMinimal),
            "r.toml:1: precision: expected \"fp64\", \"fp32\" or \"bf16\", got \"fp16\"");
  EXPECT_EQ(error_of("seed = -1\n" + kMinimal), "r.toml:1: seed: expected 0 to 9223372036854775807, got -1");
  EXPECT_EQ(override_error("augment.flip=1.5"),
            "--set augment.flip=1.5: augment.flip: expected a number in [0, 1], got 1.5");
  EXPECT_EQ(override_error("augment.flip=nan"),
            "--set augment.flip=nan: augment.flip: expected a number in [0, 1], got nan");
  EXPECT_EQ(override_error("optimizer.beta1=1"),
            "--set optimizer.beta1=1: optimizer.beta1: expected a number in [0, 1), got 1");
  EXPECT_EQ(override_error("augment.area=[0, 1]"),
            "--set augment.area=[0, 1]: augment.area: expected a number in [0.001, 1], got 0");
  EXPECT_EQ(override_error("optimizer.learning_rate=0"),
            "--set optimizer.learning_rate=0: optimizer.learning_rate: expected a finite number above 0, got 0");
  EXPECT_EQ(
      override_error("optimizer.weight_decay=inf"),
      "--set optimizer.weight_decay=inf: optimizer.weight_decay: expected a finite number of at least 0, got inf");
  EXPECT_EQ(override_error("data.mean=[0, -inf, 0]"),
            "--set data.mean=[0, -inf, 0]: data.mean: expected a number in [0, 1], got -inf");
  EXPECT_EQ(override_error("augment.crop=middle"),
            "--set augment.crop=middle: augment.crop: expected \"none\", \"pad\" or \"resized\", got \"middle\"");
}

// Numbers that are finite and of the right sign, and of which nothing sensible could be made.
TEST(recipes, numbers_that_would_overflow_or_vanish_are_refused) {
  const char* const refused[] = {"data.mean=[0.5, 0.5, 124]",
                                 "data.std=[0, 1, 1]",
                                 "data.std=[1, -0.2, 1]",
                                 "data.std=[1, 1, 1e-30]",
                                 "data.std=[1, 1, 1e308]",
                                 "augment.area=[1e-300, 1]",
                                 "augment.ratio=[1e-300, 1]",
                                 "augment.ratio=[1, 1e308]",
                                 "augment.color_jitter=[1e308, 0, 0, 0]",
                                 "mix.mixup=1e-310",
                                 "mix.mixup=-0.1",
                                 "mix.mixup=1e308",
                                 "mix.cutmix=1e-310",
                                 "mix.cutmix=1e4",
                                 "eval.crop_pct=1e-18",
                                 "eval.crop_pct=0.001",
                                 "eval.crop_pct=1.1",
                                 "eval.crop_pct=nan",
                                 "data.threads=0",
                                 "data.prefetch=0",
                                 "data.shuffle_window=0",
                                 "augment.erase_count=0",
                                 "augment.repeats=0"};
  for (const std::string setting : refused) {
    const std::string key = setting.substr(0, setting.find('='));
    const std::string error = override_error(setting);
    EXPECT_TRUE(error.starts_with("--set " + setting + ": " + key + ": expected ")) << setting << ": " << error;
  }
  EXPECT_EQ(override_error("mix.mixup=1e-310"),
            "--set mix.mixup=1e-310: mix.mixup: expected 0 or at least 0.001, got 1e-310");
  EXPECT_EQ(override_error("data.std=[1, 1, 0.0009]"),
            "--set data.std=[1, 1, 0.0009]: data.std: expected a number in [0.001, 1000], got 9e-04");
  EXPECT_EQ(override_error("eval.crop_pct=1e-18"),
            "--set eval.crop_pct=1e-18: eval.crop_pct: expected a number in [0.01, 1], got 1e-18");
  EXPECT_NO_THROW(minimal({"mix.mixup=0.001", "mix.cutmix=1000", "eval.crop_pct=0.01", "data.std=[1, 1, 0.001]"}));
}

TEST(recipes, impossible_models) {
  EXPECT_EQ(error_of(minimal_with("size = \"nano\"", "size = \"nano\"\ndim = 16")),
            "r.toml:3: model.dim: cannot be given together with model.size = \"nano\"");
  EXPECT_EQ(error_of(minimal_with("size = \"nano\"", "size = \"nano\"\ndepths = [2, 2, 2, 2]")),
            "r.toml:3: model.depths: cannot be given together with model.size = \"nano\"");
  EXPECT_EQ(error_of(minimal_with("size = \"nano\"", "")),
            "r.toml: missing key 'model.size' (or 'model.dim' and 'model.depths')");
  EXPECT_EQ(error_of(minimal_with("size = \"nano\"", "dim = 16")), "r.toml:2: model.dim: needs model.depths beside it");
  EXPECT_EQ(error_of(minimal_with("size = \"nano\"", "depths = [1, 1, 1, 1]")),
            "r.toml:2: model.depths: needs model.dim beside it");
  EXPECT_EQ(error_of(minimal_with("size = \"nano\"", "dim = 15\ndepths = [1, 1, 1, 1]")),
            "r.toml:2: model.dim: expected an even number, got 15");
}

TEST(recipes, impossible_augmentation) {
  EXPECT_EQ(error_of(kMinimal + "[augment]\ncrop = \"pad\"\n"),
            "r.toml:12: augment.crop: \"pad\" needs augment.padding of at least 1");
  EXPECT_EQ(error_of(kMinimal + "[augment]\npadding = 4\n"),
            "r.toml:12: augment.padding: expected 0, since augment.crop is \"none\", got 4");
  EXPECT_EQ(error_of(kMinimal + "[augment]\narea = [0.2, 1]\n"),
            "r.toml:12: augment.area: expected no value of its own, since augment.crop is \"none\", got [0.2, 1.0]");
  EXPECT_EQ(error_of(kMinimal + "[augment]\ncrop = \"pad\"\npadding = 4\nratio = [1, 1]\n"),
            "r.toml:14: augment.ratio: expected no value of its own, since augment.crop is \"pad\", got [1.0, 1.0]");
  EXPECT_EQ(error_of(kMinimal + "[augment]\narea = [0.9, 0.1]\ncrop = \"resized\"\n"),
            "r.toml:12: augment.area: expected [least, greatest], got [0.9, 0.1]");
  EXPECT_EQ(error_of(kMinimal + "[augment]\nratio = [2, 1]\ncrop = \"resized\"\n"),
            "r.toml:12: augment.ratio: expected [least, greatest], got [2.0, 1.0]");
  EXPECT_EQ(error_of(kMinimal + "[augment]\nrand_augment = \"rand-m9-q3\"\n"),
            "r.toml:12: augment.rand_augment: part 'q3': expected one of m, n, p, mstd, mmax, inc with a number, or t "
            "with a name");
  EXPECT_EQ(error_of(kMinimal + "[augment]\ncolor_jitter = [1, 1, 1, 0.6]\n"),
            "r.toml:12: augment.color_jitter: expected a hue, the fourth number, of at most 0.5, got 0.6");
  EXPECT_EQ(error_of(kMinimal + "[eval]\nresize = 72\ncrop_pct = 0.9\n"),
            "r.toml:13: eval.crop_pct: cannot be given together with eval.resize");
  for (const std::string name : {"random", "nearest"}) {
    EXPECT_EQ(error_of(kMinimal + "[eval]\ninterpolation = \"" + name + "\"\n"),
              "r.toml:12: eval.interpolation: expected \"bilinear\" or \"bicubic\", got \"" + name + "\"");
  }
  EXPECT_EQ(error_of(kMinimal + "[eval]\nresize = 63\n"),
            "r.toml:12: eval.resize: expected 0 or at least the 64 pixels of model.image_size, got 63");
}

TEST(recipes, dct_scaling_needs_a_resized_crop) {
  EXPECT_TRUE(minimal({"data.dct_scaling=true", "augment.crop=resized"}).data.dct_scaling);
  EXPECT_EQ(error_of(kMinimal + "[data]\ndct_scaling = true\n"),
            "r.toml:12: data.dct_scaling: expected false, since augment.crop is \"none\", got true");
  const Recipe recipe = minimal({"data.dct_scaling=true", "augment.crop=resized"});
  EXPECT_EQ(Recipe::parse(recipe.to_toml(), "other.toml"), recipe) << recipe.to_toml();
}

TEST(recipes, cutmix_bounds) {
  EXPECT_FALSE(minimal({}).mix.mixes());
  EXPECT_TRUE(minimal({"mix.cutmix_minmax=[0.2, 0.8]"}).mix.mixes());
  EXPECT_EQ(error_of(kMinimal + "[mix]\ncutmix_minmax = [0.8, 0.2]\n"),
            "r.toml:12: mix.cutmix_minmax: expected [least, greatest], got [0.8, 0.2]");
  EXPECT_EQ(error_of(kMinimal + "[mix]\ncutmix_minmax = [0.5, 0.51]\n"),
            "r.toml:12: mix.cutmix_minmax: expected at least a pixel of 64 between them, got [0.5, 0.51]");
  EXPECT_EQ(error_of(minimal_with("global_batch = 64", "global_batch = 63") + "[mix]\ncutmix_minmax = [0, 1]\n"),
            "r.toml:6: train.global_batch: expected an even number, since mixup or cutmix is on, got 63");
}

TEST(recipes, impossible_batches) {
  EXPECT_EQ(error_of(minimal_with("epochs = 10", "epochs = 10\nmicro_batch = 65")),
            "r.toml:8: train.micro_batch: expected at most train.global_batch = 64, got 65");
  EXPECT_EQ(error_of(minimal_with("epochs = 10", "epochs = 10\nmicro_batch = 24")),
            "r.toml:8: train.micro_batch: expected a divisor of train.global_batch = 64, got 24");
  EXPECT_EQ(error_of(kMinimal + "[mix]\ngroup = 7\n"), "r.toml:12: mix.group: expected an even number, got 7");
  EXPECT_EQ(error_of(kMinimal + "[mix]\nmixup = 0.8\ngroup = 24\n"),
            "r.toml:13: mix.group: expected mix.group to divide train.global_batch, got 24 and 64");
  for (const char* mode : {"pair", "elem"}) {
    EXPECT_NO_THROW(minimal({"train.global_batch=150", "mix.cutmix=1", std::string("mix.mode=") + mode})) << mode;
  }
  EXPECT_EQ(error_of(minimal_with("global_batch = 64", "global_batch = 150") + "[mix]\ncutmix = 1\n"),
            "r.toml:6: train.global_batch: expected mix.group to divide train.global_batch, got 128 and 150");
  EXPECT_EQ(error_of(minimal_with("global_batch = 64", "global_batch = 63") + "[mix]\ncutmix = 1\n"),
            "r.toml:6: train.global_batch: expected an even number, since mixup or cutmix is on, got 63");
  EXPECT_EQ(error_of(minimal_with("global_batch = 64", "global_batch = 6\nmicro_batch = 3") + "[mix]\nmixup = 1\n"),
            "r.toml:7: train.micro_batch: expected an even number, since mixup or cutmix is on, got 3");
}

TEST(recipes, odd_batches_are_fine_without_mixing) {
  EXPECT_NO_THROW(minimal({"train.global_batch=63", "train.micro_batch=21"}));
  EXPECT_NO_THROW(minimal({"mix.mixup=0.8", "mix.group=128"}));  // a group larger than the batch
}

TEST(recipes, impossible_learning_rates) {
  EXPECT_EQ(error_of(minimal_with("learning_rate = 1e-3", "learning_rate = 1e-3\nbase_learning_rate = 1e-3")),
            "r.toml:10: optimizer.base_learning_rate: cannot be given together with optimizer.learning_rate");
  EXPECT_EQ(error_of(minimal_with("learning_rate = 1e-3", "")),
            "r.toml: missing key 'optimizer.learning_rate' (or 'optimizer.base_learning_rate')");
  EXPECT_EQ(error_of(kMinimal + "warmup_epochs = 11\n"),
            "r.toml:11: schedule.warmup_epochs: expected at most train.epochs = 10, got 11.0");
  EXPECT_EQ(error_of(kMinimal + "min_learning_rate = 0.1\n"),
            "r.toml:11: schedule.min_learning_rate: expected at most optimizer.learning_rate = 0.001, got 0.1");
  EXPECT_EQ(error_of(kMinimal + "warmup_learning_rate = 0.1\n"),
            "r.toml:11: schedule.warmup_learning_rate: expected at most optimizer.learning_rate = 0.001, got 0.1");
}

TEST(recipes, impossible_names) {
  for (const char* name : {"", ".", "..", "a/b"}) {
    EXPECT_EQ(error_of("name = \"" + std::string(name) + "\"\n" + kMinimal),
              "r.toml:1: name: expected the name of a folder, got \"" + std::string(name) + "\"");
  }
}

TEST(recipes, missing_keys) {
  EXPECT_EQ(error_of(minimal_with("epochs = 10", "")), "r.toml: missing key 'train.epochs'");
  EXPECT_EQ(error_of(minimal_with("global_batch = 64", "")), "r.toml: missing key 'train.global_batch'");
  EXPECT_EQ(error_of(minimal_with("classes = 10", "")), "r.toml: missing key 'model.classes'");
  EXPECT_EQ(error_of(minimal_with("image_size = 64", "")), "r.toml: missing key 'model.image_size'");
  EXPECT_EQ(error_of(""), "r.toml: missing key 'model.classes'");
}

TEST(recipes, syntax_errors_name_line_and_column) {
  const std::string error = error_of(minimal_with("epochs = 10", "epochs = "));
  EXPECT_EQ(error.rfind("r.toml:7:10: ", 0), 0u) << error;
  EXPECT_EQ(error.find('\n'), error.npos) << error;
  const std::string twice = error_of(minimal_with("epochs = 10", "epochs = 10\nepochs = 11"));
  EXPECT_EQ(twice.rfind("r.toml:8:", 0), 0u) << twice;
  EXPECT_EQ(error_of("\xff\xfe").rfind("r.toml:1:1: ", 0), 0u) << error_of("\xff\xfe");
}

TEST(recipes, overrides) {
  const Recipe recipe = minimal({"model.image_size=[64, 96]", "train.epochs=20", "train.epochs = 30 ", "name=my run",
                                 "precision=fp64", "data.path=/a=b/#c", "augment.flip=1", "mix.mixup=0.5"});
  EXPECT_EQ(recipe.model.height, 64);
  EXPECT_EQ(recipe.model.width, 96);
  EXPECT_EQ(recipe.train.epochs, 30);  // the last one holds
  EXPECT_EQ(recipe.name, "my run");
  EXPECT_EQ(recipe.precision, qm::Precision::kFp64);
  EXPECT_EQ(recipe.data.path, "/a=b/#c");
  EXPECT_EQ(recipe.augment.flip, 1);
  EXPECT_EQ(recipe.mix.mixup, 0.5);
}

TEST(recipes, override_errors) {
  EXPECT_EQ(override_error("train.epochs=abc"),
            "--set train.epochs=abc: train.epochs: expected integer, got string \"abc\"");
  EXPECT_EQ(override_error("train.foo=1"), "--set train.foo=1: unknown key 'train.foo'");
  EXPECT_EQ(override_error("train.epoch=1"),
            "--set train.epoch=1: unknown key 'train.epoch' (did you mean 'train.epochs'?)");
  EXPECT_EQ(override_error("train.epochs"), "--set train.epochs: expected table.key=value");
  EXPECT_EQ(override_error("train.epochs="), "--set train.epochs=: expected table.key=value");
  EXPECT_EQ(override_error("=3"), "--set =3: expected table.key=value");
  EXPECT_EQ(override_error("train={epochs=3}"), "--set train={epochs=3}: expected a single value, got a table");
  EXPECT_EQ(override_error("train=3"), "--set train=3: train: expected table, got integer 3");
  EXPECT_EQ(override_error("train.micro_batch=65"),
            "--set train.micro_batch=65: train.micro_batch: expected at most train.global_batch = 64, got 65");
}

TEST(recipes, unreadable_files) {
  const auto error = [](const std::string& file) -> std::string {
    try {
      Recipe::load(file);
    } catch (const qm::IoError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error("no/such.toml"), "no/such.toml: cannot read the recipe: No such file or directory");
  EXPECT_EQ(error(QM_SOURCE_DIR), std::string(QM_SOURCE_DIR) + ": cannot read the recipe: Is a directory");
}

}  // namespace
