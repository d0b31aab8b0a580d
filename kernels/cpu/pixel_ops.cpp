#include "kernels/pixel_ops.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/pixel_ops_spatial.h"
#include "kernels/pixel_arithmetic.h"

namespace qm::cpu {
namespace {

using pixel::kChannels;

using Table = std::array<std::uint8_t, 256>;
using Histogram = std::array<std::int64_t, 256>;

template <class Function>
Table table_of(Function&& function) {
  Table table;
  for (int value = 0; value < 256; ++value) table[value] = function(value);
  return table;
}

void look_up(const Table& table, std::uint8_t* pixels, std::int64_t count) {
  for (std::int64_t i = 0; i < count * kChannels; ++i) pixels[i] = table[pixels[i]];
}

// ---- by a channel's histogram ---------------------------------------------------------------------------------------

Histogram histogram_of(const std::uint8_t* channel, std::int64_t count) {
  Histogram histogram{};
  for (std::int64_t i = 0; i < count; ++i) ++histogram[channel[i * kChannels]];
  return histogram;
}

Table stretched(const Histogram& histogram) {
  int low = 0, high = 255;
  while (low < 255 && histogram[low] == 0) ++low;
  while (high > 0 && histogram[high] == 0) --high;
  return table_of([&](int value) { return pixel::stretched(value, low, high); });
}

Table flattened(const Histogram& histogram) {
  pixel::Flattening flattening;
  for (const std::int64_t count : histogram) flattening.add(count);
  std::int64_t below = 0;
  return table_of([&](int value) {
    const std::uint8_t level = pixel::flattened(value, below, flattening.step());
    below += histogram[value];
    return level;
  });
}

template <class MakeTable>
void look_up_by_histogram(MakeTable&& make_table, std::uint8_t* pixels, std::int64_t count) {
  for (std::int64_t channel = 0; channel < kChannels; ++channel) {
    const Table table = make_table(histogram_of(pixels + channel, count));
    for (std::int64_t i = 0; i < count; ++i) {
      std::uint8_t& value = pixels[i * kChannels + channel];
      value = table[value];
    }
  }
}

// ---- between the image and a duller one -----------------------------------------------------------------------------

void blend_with_constant(int dull, float factor, std::uint8_t* pixels, std::int64_t count) {
  look_up(table_of([&](int value) { return pixel::blended(dull, value, factor); }), pixels, count);
}

void blend_with_grey(float factor, std::uint8_t* pixels, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i, pixels += kChannels) {
    const int grey = pixel::grey_of(pixels);
    for (int channel = 0; channel < kChannels; ++channel) {
      pixels[channel] = pixel::blended(grey, pixels[channel], factor);
    }
  }
}

int mean_grey(const std::uint8_t* pixels, std::int64_t count) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += pixel::grey_of(pixels + i * kChannels);
  return pixel::mean_grey(sum, count);
}

void sharpen(float factor, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
             std::vector<std::uint8_t>& scratch) {
  smooth(pixels, height, width, scratch);
  const std::int64_t values = height * width * kChannels;
  const std::uint8_t* __restrict dull = scratch.data();
  for (std::int64_t i = 0; i < values; ++i) pixels[i] = pixel::blended(dull[i], pixels[i], factor);
}

void turn_hue(double turn, std::uint8_t* pixels, std::int64_t count) {
  const std::uint8_t shift = pixel::hue_shift(turn);
  for (std::int64_t i = 0; i < count; ++i, pixels += kChannels) pixel::turn_hue(shift, pixels, pixels);
}

}  // namespace

void apply_pixel_op(const PixelOp& op, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
                    std::vector<std::uint8_t>& scratch) {
  const std::int64_t count = height * width;
  const auto factor = static_cast<float>(op.argument);
  const auto whole = static_cast<int>(op.argument);
  switch (op.kind) {
    case PixelOpKind::kNone:
      return;
    case PixelOpKind::kAutoContrast:
      return look_up_by_histogram(stretched, pixels, count);
    case PixelOpKind::kEqualize:
      return look_up_by_histogram(flattened, pixels, count);
    case PixelOpKind::kInvert:
      return look_up(table_of([](int value) { return static_cast<std::uint8_t>(255 - value); }), pixels, count);
    case PixelOpKind::kPosterize:
      return look_up(table_of([&](int value) { return pixel::posterized(value, whole); }), pixels, count);
    case PixelOpKind::kSolarize:
      return look_up(table_of([&](int value) { return pixel::solarized(value, op.argument); }), pixels, count);
    case PixelOpKind::kSolarizeAdd:
      return look_up(table_of([&](int value) { return pixel::solarize_added(value, whole); }), pixels, count);
    case PixelOpKind::kColor:
      return factor == 1 ? void() : blend_with_grey(factor, pixels, count);
    case PixelOpKind::kContrast:
      return blend_with_constant(mean_grey(pixels, count), factor, pixels, count);
    case PixelOpKind::kBrightness:
      return blend_with_constant(0, factor, pixels, count);
    case PixelOpKind::kSharpness:
      return sharpen(factor, pixels, height, width, scratch);
    case PixelOpKind::kHue:
      return turn_hue(op.argument, pixels, count);
    case PixelOpKind::kBlur:
      return blur(op.argument, pixels, height, width, scratch);
    case PixelOpKind::kAffine:
      return transform_affine(op, pixels, height, width, scratch);
  }
}

void pixel_ops(const PixelOps& p) {
  const std::int64_t image = p.height * p.width * kChannels;
#pragma omp parallel
  {
    std::vector<std::uint8_t> scratch;
#pragma omp for schedule(dynamic)
    for (std::int64_t row = 0; row < p.batch; ++row) {
      std::uint8_t* pixels = p.out + row * image;
      std::memcpy(pixels, p.images + row * image, static_cast<std::size_t>(image));
      for (std::int64_t k = 0; k < p.ops_per_image; ++k) {
        const PixelOp& op = p.ops[row * p.ops_per_image + k];
        if (op.kind == PixelOpKind::kBlur && !p.blurs) continue;
        apply_pixel_op(op, pixels, p.height, p.width, scratch);
      }
    }
  }
}

}  // namespace qm::cpu
