#include "data/color_jitter.h"

#include <algorithm>
#include <numeric>

namespace qm {

std::vector<PixelOp> draw_color_jitter(const ColorJitterConfig& config, const AugmentKey& key) {
  static constexpr PixelOpKind kKinds[] = {PixelOpKind::kBrightness, PixelOpKind::kContrast, PixelOpKind::kColor,
                                           PixelOpKind::kHue};
  std::vector<PixelOp> ops;
  if (std::ranges::all_of(config.strength, [](double strength) { return strength <= 0; })) return ops;
  const PhiloxBlock order_words = draw_block(key, AugmentStream::kColorJitter, 0);
  const PhiloxBlock factor_words = draw_block(key, AugmentStream::kColorJitter, 1);
  if (uniform_open_double(order_words.word[3], 0) >= config.probability) return ops;
  std::array<std::size_t, 4> order;
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = 3; i > 0; --i) {
    std::swap(order[i], order[uniform_below(static_cast<std::int64_t>(i) + 1, order_words.word[i - 1])]);
  }
  for (const std::size_t which : order) {
    const double strength = config.strength[which];
    if (strength <= 0) continue;
    const double middle = kKinds[which] == PixelOpKind::kHue ? 0 : 1;
    const double lowest = middle == 0 ? -strength : std::max(0.0, 1 - strength);
    ops.push_back(
        {.kind = kKinds[which], .argument = uniform_between(lowest, middle + strength, factor_words.word[which])});
  }
  return ops;
}

}  // namespace qm
