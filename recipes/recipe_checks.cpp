// Values that are fine alone and impossible together.
#include <algorithm>
#include <initializer_list>

#include "kernels/base/error.h"
#include "recipes/rand_augment_text.h"
#include "recipes/recipe_fields.h"
#include "recipes/recipe_reader.h"

namespace qm {
namespace {

class CombinationChecker {
 public:
  CombinationChecker(const TomlDocument& document, const Recipe& recipe) : document_(document), recipe_(recipe) {}

  void check() const {
    check_name();
    check_model();
    check_augment();
    check_batch();
    check_mix();
    check_learning_rates();
    check_eval();
  }

 private:
  bool given(const char* key) const { return document_.find(key) != nullptr; }

  /// Fails at the first of `keys` that the document holds; the text says what that key expected and got.
  template <class... Parts>
  [[noreturn]] void fail(std::initializer_list<const char*> keys, const Parts&... parts) const {
    const auto* key = std::find_if(keys.begin(), keys.end(), [&](const char* k) { return given(k); });
    if (key == keys.end()) throw ConfigError(concat(document_.origin(), ": ", *keys.begin(), ": ", parts...));
    throw ConfigError(concat(document_.find(*key)->where, ": ", *key, ": ", parts...));
  }

  void check_name() const {
    const std::string& name = recipe_.name;
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
      fail({"name"}, "expected the name of a folder, got ", toml_text(name));
    }
  }

  void check_model() const {
    if (given("model.size")) {
      for (const char* key : {"model.dim", "model.depths"}) {
        if (given(key)) fail({key}, "cannot be given together with model.size = ", toml_text(recipe_.model.size));
      }
      return;
    }
    if (!given("model.dim") && !given("model.depths")) {
      throw ConfigError(concat(document_.origin(), ": missing key 'model.size' (or 'model.dim' and 'model.depths')"));
    }
    if (!given("model.depths")) fail({"model.dim"}, "needs model.depths beside it");
    if (!given("model.dim")) fail({"model.depths"}, "needs model.dim beside it");
    if (recipe_.model.dim % 2 != 0) fail({"model.dim"}, "expected an even number, got ", recipe_.model.dim);
  }

  void check_augment() const {
    const Recipe::Augment& augment = recipe_.augment;
    if (augment.crop == "pad" && augment.padding == 0) {
      fail({"augment.crop"}, "\"pad\" needs augment.padding of at least 1");
    }
    if (augment.crop != "pad" && augment.padding != 0) {
      fail({"augment.padding"}, "expected 0, since augment.crop is ", toml_text(augment.crop), ", got ",
           augment.padding);
    }
    if (recipe_.data.dct_scaling && augment.crop != "resized") {
      fail({"data.dct_scaling"}, "expected false, since augment.crop is ", toml_text(augment.crop), ", got true");
    }
    check_of_resized("augment.area", augment.area, Recipe::Augment{}.area);
    check_of_resized("augment.ratio", augment.ratio, Recipe::Augment{}.ratio);
    check_ordered("augment.area", augment.area);
    check_ordered("augment.ratio", augment.ratio);
    check_rand_augment(augment.rand_augment);
    if (augment.color_jitter[3] > 0.5) {
      fail({"augment.color_jitter"}, "expected a hue, the fourth number, of at most 0.5, got ",
           toml_text(augment.color_jitter[3]));
    }
  }

  /// A resolved recipe holds every key, so that the default is no sign of a mistake.
  void check_of_resized(const char* key, const std::array<double, 2>& bounds, const std::array<double, 2>& by_default) const {
    if (recipe_.augment.crop == "resized" || bounds == by_default) return;
    fail({key}, "expected no value of its own, since augment.crop is ", toml_text(recipe_.augment.crop), ", got [",
         toml_text(bounds[0]), ", ", toml_text(bounds[1]), "]");
  }

  void check_rand_augment(const std::string& text) const {
    if (text.empty()) return;
    try {
      parse_rand_augment(text);
    } catch (const ConfigError& error) {
      fail({"augment.rand_augment"}, error.what());
    }
  }

  void check_ordered(const char* key, const std::array<double, 2>& bounds) const {
    if (bounds[0] > bounds[1]) {
      fail({key}, "expected [least, greatest], got [", toml_text(bounds[0]), ", ", toml_text(bounds[1]), "]");
    }
  }

  void check_batch() const {
    const Recipe::Train& train = recipe_.train;
    if (train.micro_batch == 0) return;
    if (train.micro_batch > train.global_batch) {
      fail({"train.micro_batch"}, "expected at most train.global_batch = ", train.global_batch, ", got ",
           train.micro_batch);
    }
    if (train.global_batch % train.micro_batch != 0) {
      fail({"train.micro_batch"}, "expected a divisor of train.global_batch = ", train.global_batch, ", got ",
           train.micro_batch);
    }
  }

  void check_mix() const {
    const Recipe::Mix& mix = recipe_.mix;
    const Recipe::Train& train = recipe_.train;
    if (mix.group % 2 != 0) fail({"mix.group"}, "expected an even number, got ", mix.group);
    check_beta_parameter("mix.mixup", mix.mixup);
    check_beta_parameter("mix.cutmix", mix.cutmix);
    check_cutmix_bounds(mix.cutmix_minmax);
    if (!mix.mixes()) return;
    // Neighbours are mixed with one another, so both must be in the same batch, micro-batch and group.
    if (train.global_batch % 2 != 0) {
      fail({"train.global_batch"}, "expected an even number, since mixup or cutmix is on, got ", train.global_batch);
    }
    if (train.micro_batch % 2 != 0) {
      fail({"train.micro_batch"}, "expected an even number, since mixup or cutmix is on, got ", train.micro_batch);
    }
    const bool by_group = mix.mode == "batch";  // else mix.group has no part in it
    if (by_group && train.global_batch > mix.group && train.global_batch % mix.group != 0) {
      fail({"mix.group", "train.global_batch"}, "expected mix.group to divide train.global_batch, got ", mix.group,
           " and ", train.global_batch);
    }
  }

  void check_beta_parameter(const char* key, double value) const {
    if (value != 0 && value < kLeastBetaParameter) {
      fail({key}, "expected 0 or at least ", toml_text(kLeastBetaParameter), ", got ", toml_text(value));
    }
  }

  void check_cutmix_bounds(const std::array<double, 2>& bounds) const {
    if (bounds[0] == 0 && bounds[1] == 0) return;
    check_ordered("mix.cutmix_minmax", bounds);
    for (const std::int64_t extent : {recipe_.model.height, recipe_.model.width}) {
      const auto pixels = [&](double share) { return static_cast<std::int64_t>(static_cast<double>(extent) * share); };
      if (pixels(bounds[0]) == pixels(bounds[1])) {
        fail({"mix.cutmix_minmax"}, "expected at least a pixel of ", extent, " between them, got [",
             toml_text(bounds[0]), ", ", toml_text(bounds[1]), "]");
      }
    }
  }

  void check_learning_rates() const {
    const bool fixed = given("optimizer.learning_rate");
    const bool scaled = given("optimizer.base_learning_rate");
    if (fixed && scaled) {
      fail({"optimizer.base_learning_rate"}, "cannot be given together with optimizer.learning_rate");
    }
    if (!fixed && !scaled) {
      throw ConfigError(
          concat(document_.origin(), ": missing key 'optimizer.learning_rate' (or 'optimizer.base_learning_rate')"));
    }

    const Recipe::Schedule& schedule = recipe_.schedule;
    if (schedule.warmup_epochs > static_cast<double>(recipe_.train.epochs)) {
      fail({"schedule.warmup_epochs"}, "expected at most train.epochs = ", recipe_.train.epochs, ", got ",
           toml_text(schedule.warmup_epochs));
    }
    const char* peak_key = fixed ? "optimizer.learning_rate" : "optimizer.base_learning_rate";
    const double peak = fixed ? recipe_.optimizer.learning_rate : recipe_.optimizer.base_learning_rate;
    check_rate("schedule.warmup_learning_rate", schedule.warmup_learning_rate, peak_key, peak);
    check_rate("schedule.min_learning_rate", schedule.min_learning_rate, peak_key, peak);
  }

  void check_rate(const char* key, double rate, const char* peak_key, double peak) const {
    if (rate > peak) {
      fail({key}, "expected at most ", peak_key, " = ", toml_text(peak), ", got ", toml_text(rate));
    }
  }

  void check_eval() const {
    const std::int64_t resize = recipe_.eval.resize;
    if (resize != 0 && given("eval.crop_pct")) {
      fail({"eval.crop_pct"}, "cannot be given together with eval.resize");
    }
    const std::int64_t crop = std::max(recipe_.model.height, recipe_.model.width);
    if (resize != 0 && resize < crop) {
      fail({"eval.resize"}, "expected 0 or at least the ", crop, " pixels of model.image_size, got ", resize);
    }
  }

  const TomlDocument& document_;
  const Recipe& recipe_;
};

}  // namespace

void check_combinations(const TomlDocument& document, const Recipe& recipe) {
  CombinationChecker(document, recipe).check();
}

}  // namespace qm
