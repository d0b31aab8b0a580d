#include "data/mix.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/base/philox.h"

namespace qm {
namespace {

/// The `minor` part of the keys: streams within RandomPurpose::kMix. Fixed, as changing one changes every run.
enum Stream : std::uint32_t { kDecisions = 0, kFirstGamma = 1, kSecondGamma = 2 };

struct MixKey {
  std::uint64_t seed;
  std::uint32_t step, group;

  PhiloxBlock block(Stream stream, std::uint32_t draw) const {
    return philox(seed, RandomPurpose::kMix, step, stream, group, draw);
  }
};

double uniform(const PhiloxBlock& block, int pair) {
  return uniform_open_double(block.word[2 * pair], block.word[2 * pair + 1]);
}

/// The logarithm of a Gamma(shape, 1) draw: Marsaglia and Tsang's squeeze ("A simple method for generating gamma
/// variables", 2000) for shape + 1, brought down to shape by U^(1/shape). In logarithms since for a small shape both
/// draws of a Beta may underflow, which would leave 0/0.
double log_gamma_draw(double shape, const MixKey& key, Stream stream) {
  const double d = shape + 1.0 - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  for (std::uint32_t attempt = 0;; ++attempt) {
    const PhiloxBlock first = key.block(stream, 2 * attempt);
    const PhiloxBlock second = key.block(stream, 2 * attempt + 1);
    const double radius = std::sqrt(-2.0 * std::log(uniform(first, 0)));
    const double normal = radius * std::cos(2.0 * std::numbers::pi * uniform(first, 1));  // Box–Muller
    const double root = 1.0 + c * normal;
    if (root <= 0) continue;
    const double v = root * root * root;
    if (std::log(uniform(second, 0)) < 0.5 * normal * normal + d - d * v + d * std::log(v)) {
      return std::log(d * v) + std::log(uniform(second, 1)) / shape;
    }
  }
}

/// Beta(α, α) as the ratio of two gamma draws.
double beta_draw(double alpha, const MixKey& key) {
  const double first = log_gamma_draw(alpha, key, kFirstGamma);
  const double second = log_gamma_draw(alpha, key, kSecondGamma);
  return 1.0 / (1.0 + std::exp(second - first));
}

/// A uniform integer in [0, bound).
std::int64_t below(std::int64_t bound, std::uint32_t word) {
  return static_cast<std::int64_t>((static_cast<std::uint64_t>(word) * static_cast<std::uint64_t>(bound)) >> 32);
}

struct Interval {
  std::int32_t begin, end;
};

/// ⌊extent · ratio⌋ pixels around a uniform centre, clipped. Halves are rounded down as timm does, so that an odd
/// length loses a pixel.
Interval cut(std::int64_t extent, double ratio, std::uint32_t word) {
  const auto half = static_cast<std::int64_t>(static_cast<double>(extent) * ratio) / 2;
  const std::int64_t center = below(extent, word);
  return {static_cast<std::int32_t>(std::max<std::int64_t>(center - half, 0)),
          static_cast<std::int32_t>(std::min(center + half, extent))};
}

/// A length of at least the first share of `extent` and below the second, at a uniform place.
Interval cut_within(std::int64_t extent, const std::array<double, 2>& shares, std::uint32_t length_word,
                    std::uint32_t place_word) {
  const auto share_of = [&](double share) {
    return static_cast<std::int64_t>(static_cast<double>(extent) * share);
  };
  const std::int64_t least = share_of(shares[0]);
  const std::int64_t length = least + below(share_of(shares[1]) - least, length_word);
  const std::int64_t begin = below(extent - length, place_word);
  return {static_cast<std::int32_t>(begin), static_cast<std::int32_t>(begin + length)};
}

}  // namespace

MixGroup draw_mix(const MixConfig& config, std::uint64_t seed, std::uint32_t step, std::uint32_t group,
                  std::int64_t height, std::int64_t width) {
  MixGroup mix;
  const bool has_bounds = config.cutmix_minmax[1] > 0, has_cutmix = config.cutmix > 0 || has_bounds;
  if (config.mixup <= 0 && !has_cutmix) return mix;
  const MixKey key{seed, step, group};
  const PhiloxBlock decisions = key.block(kDecisions, 0);
  if (uniform(decisions, 0) >= config.probability) return mix;
  const bool has_choice = config.mixup > 0 && has_cutmix;
  const bool use_cutmix = has_choice ? uniform(decisions, 1) < config.switch_probability : has_cutmix;
  if (!use_cutmix) {
    mix.pixel_weight = mix.target_weight = beta_draw(config.mixup, key);
    return mix;
  }
  const PhiloxBlock place = key.block(kDecisions, 1);
  Interval rows, columns;
  if (has_bounds) {
    rows = cut_within(height, config.cutmix_minmax, place.word[0], place.word[1]);
    columns = cut_within(width, config.cutmix_minmax, place.word[2], place.word[3]);
  } else {
    const double ratio = std::sqrt(1.0 - beta_draw(config.cutmix, key));
    rows = cut(height, ratio, place.word[0]);
    columns = cut(width, ratio, place.word[1]);
  }
  mix.top = rows.begin, mix.bottom = rows.end;
  mix.left = columns.begin, mix.right = columns.end;
  const auto area = static_cast<double>(rows.end - rows.begin) * (columns.end - columns.begin);
  mix.target_weight = 1.0 - area / static_cast<double>(height * width);
  return mix;
}

}  // namespace qm
