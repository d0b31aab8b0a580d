// The list of a recipe's keys, once: its name, its field, the values it may take. Reader and writer both walk it.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include "recipes/recipe.h"

namespace qm {

/// low ≤ value ≤ high
struct IntegerRange {
  std::int64_t low = 0;
  std::int64_t high = 0;
};

/// low ≤ value ≤ high, or < at an open end. Never infinite, never NaN.
struct RealRange {
  double low = 0;
  double high = 0;
  bool low_open = false;
  bool high_open = false;
};

/// The strings a key may take; empty: any.
using Choices = std::span<const std::string_view>;

// Positions in a global batch and epoch counts are 32-bit words of the random counters.
inline constexpr std::int64_t kLargestCount = std::numeric_limits<std::int32_t>::max();
inline constexpr double kLargestReal = std::numeric_limits<double>::max();

inline constexpr IntegerRange kAnyCount{0, kLargestCount};
inline constexpr IntegerRange kPositiveCount{1, kLargestCount};
inline constexpr RealRange kNotNegative{0, kLargestReal};
inline constexpr RealRange kPositive{0, kLargestReal, true};
inline constexpr RealRange kProbability{0, 1};
inline constexpr RealRange kBelowOne{0, 1, false, true};
/// Wide enough for whatever trains, and so far from where numbers overflow or vanish that nothing has to be checked
/// later.
inline constexpr RealRange kPixelMean{0, 1};
inline constexpr RealRange kPixelDeviation{1e-3, 1e3};  // a quarter of a grey level: no images differ by less
inline constexpr RealRange kArea{1e-3, 1};
inline constexpr RealRange kAspectRatio{1e-2, 1e2};
inline constexpr RealRange kJitter{0, 10};
inline constexpr RealRange kCropShare{1e-2, 1};
inline constexpr RealRange kBetaParameter{0, 1e3};  // 0, which is off, or at least kLeastBetaParameter
inline constexpr double kLeastBetaParameter = 1e-3;

inline constexpr std::array<std::string_view, 5> kSizeNames{"nano", "lite", "tiny", "small", "base"};
inline constexpr std::array<std::string_view, 3> kCropNames{"none", "pad", "resized"};
inline constexpr std::array<std::string_view, 2> kShuffleNames{"full", "window"};
inline constexpr std::array<std::string_view, 3> kEraseFillNames{"const", "rand", "pixel"};
inline constexpr std::array<std::string_view, 3> kMixModeNames{"batch", "pair", "elem"};
inline constexpr std::array<std::string_view, 2> kEvalResamplingNames{"bilinear", "bicubic"};

template <class Enum>
struct EnumNames;
template <>
struct EnumNames<Precision> {
  static constexpr std::array<std::pair<std::string_view, Precision>, 3> value{
      {{"fp64", Precision::kFp64}, {"fp32", Precision::kFp32}, {"bf16", Precision::kBf16}}};
};
template <>
struct EnumNames<FineOrderKey> {
  static constexpr std::array<std::pair<std::string_view, FineOrderKey>, 2> value{
      {{"quadtree", FineOrderKey::kQuadtree}, {"window_raster", FineOrderKey::kWindowRaster}}};
};
template <>
struct EnumNames<StemFilters> {
  static constexpr std::array<std::pair<std::string_view, StemFilters>, 2> value{
      {{"independent", StemFilters::kIndependent}, {"stratified", StemFilters::kStratified}}};
};
template <>
struct EnumNames<Resampling> {
  static constexpr std::array<std::pair<std::string_view, Resampling>, 3> value{
      {{"bilinear", Resampling::kBilinear}, {"bicubic", Resampling::kBicubic}, {"random", Resampling::kRandom}}};
};
template <>
struct EnumNames<NotFinite> {
  static constexpr std::array<std::pair<std::string_view, NotFinite>, 2> value{
      {{"stop", NotFinite::kStop}, {"skip", NotFinite::kSkip}}};
};

/// Visits every key in the order in which recipes are written. `RecipeType` is Recipe or const Recipe.
///   visitor.field(key, value, allowed)
///   visitor.required(key, value, allowed)            a key without a default
///   visitor.alternative(given, key, value, allowed)  a key given instead of another; `given` tells whether it was
///   visitor.image_size(key, height, width, allowed)  required
template <class RecipeType, class Visitor>
void visit_fields(RecipeType& recipe, Visitor& visitor) {
  visitor.field("name", recipe.name);
  visitor.field("seed", recipe.seed);
  visitor.field("precision", recipe.precision);

  auto& model = recipe.model;
  const bool by_size = !model.size.empty();
  visitor.alternative(by_size, "model.size", model.size, Choices(kSizeNames));
  visitor.alternative(!by_size, "model.dim", model.dim, IntegerRange{4, 1 << 16});
  visitor.alternative(!by_size, "model.depths", model.depths, IntegerRange{1, 1000});
  visitor.field("model.state_size", model.state_size, IntegerRange{1, 1024});
  visitor.field("model.fine_order", model.fine_order);
  visitor.required("model.classes", model.classes, kPositiveCount);
  visitor.field("model.drop_path", model.drop_path, kBelowOne);
  visitor.field("model.stem_filters", model.stem_filters);
  visitor.image_size("model.image_size", model.height, model.width, IntegerRange{32, 1 << 16});

  auto& data = recipe.data;
  visitor.field("data.path", data.path);
  visitor.field("data.mean", data.mean, kPixelMean);
  visitor.field("data.std", data.std, kPixelDeviation);
  visitor.field("data.threads", data.threads, IntegerRange{1, 1024});
  visitor.field("data.prefetch", data.prefetch, IntegerRange{1, 1024});
  visitor.field("data.shuffle", data.shuffle, Choices(kShuffleNames));
  visitor.field("data.shuffle_window", data.shuffle_window, kPositiveCount);
  visitor.field("data.dct_scaling", data.dct_scaling);

  auto& augment = recipe.augment;
  visitor.field("augment.crop", augment.crop, Choices(kCropNames));
  visitor.field("augment.padding", augment.padding, IntegerRange{0, 1 << 16});
  visitor.field("augment.area", augment.area, kArea);
  visitor.field("augment.ratio", augment.ratio, kAspectRatio);
  visitor.field("augment.flip", augment.flip, kProbability);
  visitor.field("augment.interpolation", augment.interpolation);
  visitor.field("augment.rand_augment", augment.rand_augment);
  visitor.field("augment.color_jitter", augment.color_jitter, kJitter);
  visitor.field("augment.color_jitter_probability", augment.color_jitter_probability, kProbability);
  visitor.field("augment.erase_probability", augment.erase_probability, kProbability);
  visitor.field("augment.erase_fill", augment.erase_fill, Choices(kEraseFillNames));
  visitor.field("augment.erase_count", augment.erase_count, IntegerRange{1, 64});
  visitor.field("augment.repeats", augment.repeats, IntegerRange{1, 1024});

  auto& mix = recipe.mix;
  visitor.field("mix.mixup", mix.mixup, kBetaParameter);
  visitor.field("mix.cutmix", mix.cutmix, kBetaParameter);
  visitor.field("mix.cutmix_minmax", mix.cutmix_minmax, kProbability);
  visitor.field("mix.probability", mix.probability, kProbability);
  visitor.field("mix.switch_probability", mix.switch_probability, kProbability);
  visitor.field("mix.group", mix.group, IntegerRange{2, kLargestCount});
  visitor.field("mix.mode", mix.mode, Choices(kMixModeNames));
  visitor.field("mix.off_epoch", mix.off_epoch, kAnyCount);

  auto& train = recipe.train;
  visitor.required("train.global_batch", train.global_batch, kPositiveCount);
  visitor.field("train.micro_batch", train.micro_batch, kAnyCount);
  visitor.required("train.epochs", train.epochs, kPositiveCount);
  visitor.field("train.max_steps", train.max_steps, kAnyCount);
  visitor.field("train.label_smoothing", train.label_smoothing, kBelowOne);
  visitor.field("train.clip_grad_norm", train.clip_grad_norm, kNotNegative);
  visitor.field("train.ema_decay", train.ema_decay, kBelowOne);
  visitor.field("train.activation_checkpointing", train.activation_checkpointing);
  visitor.field("train.graph", train.graph);
  visitor.field("train.log_every", train.log_every, kPositiveCount);
  visitor.field("train.not_finite", train.not_finite);

  auto& optimizer = recipe.optimizer;
  visitor.alternative(optimizer.learning_rate > 0, "optimizer.learning_rate", optimizer.learning_rate, kPositive);
  visitor.alternative(optimizer.base_learning_rate > 0, "optimizer.base_learning_rate", optimizer.base_learning_rate,
                      kPositive);
  visitor.field("optimizer.weight_decay", optimizer.weight_decay, kNotNegative);
  visitor.field("optimizer.beta1", optimizer.beta1, kBelowOne);
  visitor.field("optimizer.beta2", optimizer.beta2, kBelowOne);
  visitor.field("optimizer.epsilon", optimizer.epsilon, kPositive);

  auto& schedule = recipe.schedule;
  visitor.field("schedule.warmup_epochs", schedule.warmup_epochs, kNotNegative);
  visitor.field("schedule.warmup_learning_rate", schedule.warmup_learning_rate, kNotNegative);
  visitor.field("schedule.min_learning_rate", schedule.min_learning_rate, kNotNegative);

  auto& eval = recipe.eval;
  visitor.field("eval.every_steps", eval.every_steps, kAnyCount);
  visitor.field("eval.every_epochs", eval.every_epochs, kAnyCount);
  visitor.field("eval.batch", eval.batch, kAnyCount);
  visitor.alternative(eval.crop_pct == 0, "eval.resize", eval.resize, IntegerRange{0, 1 << 16});
  visitor.alternative(eval.crop_pct > 0, "eval.crop_pct", eval.crop_pct, kCropShare);
  visitor.field("eval.interpolation", eval.interpolation, Choices(kEvalResamplingNames));

  auto& checkpoint = recipe.checkpoint;
  visitor.field("checkpoint.every_steps", checkpoint.every_steps, kAnyCount);
  visitor.field("checkpoint.every_epochs", checkpoint.every_epochs, kAnyCount);
  visitor.field("checkpoint.keep_last", checkpoint.keep_last, kPositiveCount);
}

}  // namespace qm
