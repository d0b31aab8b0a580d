#include "data/random_erasing.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/error.h"

namespace qm {
namespace {

constexpr std::uint32_t kAttempts = 10;
constexpr double kLeastArea = 0.02, kGreatestArea = 1.0 / 3, kLeastAspect = 0.3;

/// An empty box where ten tries found none that fits.
ErasedBox draw_box(const AugmentKey& key, std::int64_t box, std::int64_t boxes, std::int64_t height,
                   std::int64_t width) {
  const double image_area = static_cast<double>(height * width) / static_cast<double>(boxes);
  for (std::uint32_t attempt = 0; attempt < kAttempts; ++attempt) {
    const auto draw = 1 + static_cast<std::uint32_t>(box) * kAttempts + attempt;
    const PhiloxBlock block = draw_block(key, AugmentStream::kErasing, draw);
    const double area = uniform_between(kLeastArea, kGreatestArea, block.word[0]) * image_area;
    const double aspect = std::exp(uniform_between(std::log(kLeastAspect), std::log(1 / kLeastAspect), block.word[1]));
    const auto rows = static_cast<std::int64_t>(std::nearbyint(std::sqrt(area * aspect)));
    const auto columns = static_cast<std::int64_t>(std::nearbyint(std::sqrt(area / aspect)));
    if (rows >= height || columns >= width) continue;
    const std::int64_t top = uniform_below(height - rows + 1, block.word[2]);
    const std::int64_t left = uniform_below(width - columns + 1, block.word[3]);
    return {.top = static_cast<std::int32_t>(top),
            .bottom = static_cast<std::int32_t>(top + rows),
            .left = static_cast<std::int32_t>(left),
            .right = static_cast<std::int32_t>(left + columns)};
  }
  return {};
}

}  // namespace

void draw_erasing(const ErasingConfig& config, const AugmentKey& key, std::int64_t height, std::int64_t width,
                  std::span<ErasedBox> boxes) {
  QM_CHECK(static_cast<std::int64_t>(boxes.size()) == config.count, ShapeError, "random erasing: room for ",
           boxes.size(), " boxes, the configuration has ", config.count);
  std::fill(boxes.begin(), boxes.end(), ErasedBox{});
  const PhiloxBlock decision = draw_block(key, AugmentStream::kErasing);
  if (uniform_open_double(decision.word[0], 0) >= config.probability) return;
  const std::int64_t count = 1 + uniform_below(config.count, decision.word[1]);
  for (std::int64_t i = 0; i < count; ++i) {
    ErasedBox& box = boxes[static_cast<std::size_t>(i)];
    box = draw_box(key, i, count, height, width);
    box.seed = key.seed;
    box.epoch = key.epoch;
    box.position = key.position;
    box.stream = static_cast<std::uint32_t>(AugmentStream::kErasingNoise) + static_cast<std::uint32_t>(i);
    box.fill = config.fill;
  }
}

}  // namespace qm
