#include "launch/factory.h"

#include <algorithm>
#include <cmath>

#include "recipes/rand_augment_text.h"

namespace qm {
namespace {

Interpolation interpolation_of(Resampling resampling) {
  return resampling == Resampling::kBilinear ? Interpolation::kBilinear : Interpolation::kBicubic;
}

RandAugmentSet set_of(const RandAugmentText& text) {
  if (text.set == "weights") return RandAugmentSet::kWeighted;
  if (text.set == "3a") return RandAugmentSet::k3a;
  if (text.set == "3aw") return RandAugmentSet::k3aWeighted;
  return text.increasing ? RandAugmentSet::kIncreasing : RandAugmentSet::kStandard;
}

RandAugmentConfig rand_augment_config(const Recipe& recipe) {
  if (recipe.augment.rand_augment.empty()) return {};
  const RandAugmentText text = parse_rand_augment(recipe.augment.rand_augment);
  RandAugmentConfig config{.layers = text.layers,
                           .set = set_of(text),
                           .probability = text.probability,
                           .magnitude = static_cast<double>(text.magnitude),
                           .magnitude_std = text.magnitude_std,
                           .magnitude_max = static_cast<double>(text.magnitude_max)};
  for (std::size_t c = 0; c < config.fill.size(); ++c) {  // the mean colour
    config.fill[c] = static_cast<std::uint8_t>(std::clamp(std::nearbyint(255 * recipe.data.mean[c]), 0.0, 255.0));
  }
  return config;
}

ErasingConfig erasing_config(const Recipe::Augment& augment) {
  const EraseFill fill = augment.erase_fill == "pixel"  ? EraseFill::kPixel
                         : augment.erase_fill == "rand" ? EraseFill::kRand
                                                        : EraseFill::kConst;
  return {.probability = augment.erase_probability, .fill = fill, .count = augment.erase_count};
}

CropMode crop_mode_of(const std::string& crop) {
  if (crop == "pad") return CropMode::kPad;
  return crop == "resized" ? CropMode::kResized : CropMode::kNone;
}

}  // namespace

QuadMambaConfig model_config(const Recipe& recipe) {
  const Recipe::Model& model = recipe.model;
  return {.dim = model.dim,
          .depths = model.depths,
          .classes = model.classes,
          .state_size = model.state_size,
          .fine_order =
              model.fine_order == FineOrderKey::kQuadtree ? FineOrder::kQuadtree : FineOrder::kWindowRaster,
          .drop_path = model.drop_path,
          .stem_filters = model.stem_filters == StemFilters::kStratified ? FilterSampling::kStratified
                                                                         : FilterSampling::kIndependent};
}

AdamWConfig optimizer_config(const Recipe& recipe) {
  const Recipe::Optimizer& optimizer = recipe.optimizer;
  return {.beta1 = optimizer.beta1,
          .beta2 = optimizer.beta2,
          .epsilon = optimizer.epsilon,
          .weight_decay = optimizer.weight_decay,
          .clip_norm = recipe.train.clip_grad_norm,
          .ema = recipe.train.ema_decay > 0};
}

MixConfig mix_config(const Recipe& recipe) {
  const Recipe::Mix& mix = recipe.mix;
  return {.mixup = mix.mixup,
          .cutmix = mix.cutmix,
          .probability = mix.probability,
          .switch_probability = mix.switch_probability,
          .cutmix_minmax = mix.cutmix_minmax};
}

std::int64_t mix_group(const Recipe& recipe) {
  if (recipe.mix.mode == "elem") return 1;
  return recipe.mix.mode == "pair" ? 2 : recipe.mix.group;
}

LoaderConfig loader_config(const Recipe& recipe) {
  const Recipe::Augment& augment = recipe.augment;
  return {.seed = recipe.seed,
          .height = recipe.model.height,
          .width = recipe.model.width,
          .threads = recipe.data.threads,
          .prefetch = recipe.data.prefetch,
          .augment = {.crop = crop_mode_of(augment.crop),
                      .padding = augment.padding,
                      .area = augment.area,
                      .ratio = augment.ratio,
                      .flip = augment.flip,
                      .interpolation = interpolation_of(augment.interpolation),
                      .random_interpolation = augment.interpolation == Resampling::kRandom,
                      .dct_scaling = recipe.data.dct_scaling,
                      .rand_augment = rand_augment_config(recipe),
                      .color_jitter = {augment.color_jitter, augment.color_jitter_probability}},
          .erasing = erasing_config(augment),
          .window = recipe.data.shuffle == "window" ? recipe.data.shuffle_window : 0,
          .repeats = augment.repeats,
          .global_batch = recipe.train.global_batch,
          .eval = {.resize = recipe.eval.short_side(std::max(recipe.model.height, recipe.model.width)),
                   .interpolation = interpolation_of(recipe.eval.interpolation)}};
}

ImageNormalization normalization(const Recipe& recipe) { return {recipe.data.mean, recipe.data.std}; }

DType master_dtype(const Recipe& recipe) {
  return recipe.precision == Precision::kFp64 ? DType::kFloat64 : DType::kFloat32;
}

DType activation_dtype(const Recipe& recipe) {
  return recipe.precision == Precision::kBf16 ? DType::kBFloat16 : master_dtype(recipe);
}

Device choose_device(const std::string& name, Precision precision, const GpuSupply& supply, int local_rank) {
#ifdef QM_HAVE_CUDA
  QM_CHECK(name != "cuda" || supply.gpus > 0, ConfigError, "--device cuda: found no GPU and driver to use");
#else
  QM_CHECK(name != "cuda", ConfigError, "--device cuda: this build has no CUDA back-end");
#endif
  QM_CHECK(name != "cuda" || precision != Precision::kFp64, ConfigError,
           "--device cuda: precision fp64 runs on the CPU only");
  QM_CHECK(name != "cuda" || supply.suffices(), ConfigError, "--device cuda: ", supply.ranks, " ranks on a host with ",
           supply.gpus, supply.gpus == 1 ? " GPU" : " GPUs", ": start one rank a GPU");
  const bool on_gpu = name == "cuda" || (name == "auto" && precision != Precision::kFp64 && supply.suffices());
  QM_CHECK(on_gpu || precision != Precision::kBf16, ConfigError,
           "precision bf16 needs a GPU; on the CPU use --set precision=fp32");
  return on_gpu ? Device{DeviceType::kCuda, local_rank} : Device{};
}

Device choose_device(const std::string& name, Precision precision, const Environment& environment) {
  // Who computes on the CPU does not pay for the search for a driver.
  const GpuSupply supply = name == "cpu" ? GpuSupply{} : environment.gpu_supply();
  return choose_device(name, precision, supply, environment.local_rank());
}

Network::Network(const Recipe& recipe, Device device)
    : model(std::make_unique<QuadMamba>(parameters, model_config(recipe))) {
  parameters.allocate(master_dtype(recipe), device, recipe.seed, activation_dtype(recipe));
}

}  // namespace qm
