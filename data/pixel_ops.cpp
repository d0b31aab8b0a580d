// PIL's results are defined by its arithmetic: what is truncated there is truncated here, what is float is float.
// data/ is compiled without fused multiply-adds, which would round other values.
#include "data/pixel_ops.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numbers>

#include "data/pixel_ops_spatial.h"

namespace qm {
namespace {

constexpr std::int64_t kChannels = 3;

using Table = std::array<std::uint8_t, 256>;
using Histogram = std::array<std::int64_t, 256>;

std::uint8_t clip(std::int64_t value) {
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(value, 0, 255));
}

/// A grey value of 16.16 fixed-point weights that sum to 1.
std::uint8_t grey_of(const std::uint8_t* pixel) {
  return static_cast<std::uint8_t>((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16);
}

template <class Function>
Table table_of(Function&& function) {
  Table table;
  for (int value = 0; value < 256; ++value) table[value] = clip(function(value));
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
  if (high <= low) return table_of([](int value) { return value; });
  const double scale = 255.0 / (high - low), offset = -low * scale;
  return table_of([&](int value) { return static_cast<std::int64_t>(value * scale + offset); });
}

Table flattened(const Histogram& histogram) {
  std::int64_t total = 0, last = 0, used = 0;
  for (const std::int64_t count : histogram) {
    total += count;
    if (count > 0) last = count, ++used;
  }
  const std::int64_t step = (total - last) / 255;
  if (used <= 1 || step == 0) return table_of([](int value) { return value; });
  std::int64_t below = step / 2;
  return table_of([&](int value) {
    const std::int64_t level = below / step;
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

std::uint8_t blended(int dull, int value, float factor) {
  const float result = static_cast<float>(dull) + factor * static_cast<float>(value - dull);
  return static_cast<std::uint8_t>(std::clamp(result, 0.0f, 255.0f));
}

void blend_with_constant(int dull, float factor, std::uint8_t* pixels, std::int64_t count) {
  look_up(table_of([&](int value) { return blended(dull, value, factor); }), pixels, count);
}

void blend_with_grey(float factor, std::uint8_t* pixels, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i, pixels += kChannels) {
    const int grey = grey_of(pixels);
    for (std::int64_t channel = 0; channel < kChannels; ++channel) {
      pixels[channel] = blended(grey, pixels[channel], factor);
    }
  }
}

int mean_grey(const std::uint8_t* pixels, std::int64_t count) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += grey_of(pixels + i * kChannels);
  return static_cast<int>(static_cast<double>(sum) / static_cast<double>(count) + 0.5);
}

void sharpen(float factor, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
             std::vector<std::uint8_t>& scratch) {
  smooth(pixels, height, width, scratch);
  const std::int64_t values = height * width * kChannels;
  const std::uint8_t* __restrict dull = scratch.data();
  for (std::int64_t i = 0; i < values; ++i) pixels[i] = blended(dull[i], pixels[i], factor);
}

// ---- hue ------------------------------------------------------------------------------------------------------------

/// Hue, saturation and value in 0 … 255; the hue is a sixth of the circle plus where it lies towards the next.
std::array<std::uint8_t, 3> hsv_of(const std::uint8_t* rgb) {
  const int red = rgb[0], green = rgb[1], blue = rgb[2];
  const int highest = std::max({red, green, blue}), lowest = std::min({red, green, blue});
  if (highest == lowest) return {0, 0, static_cast<std::uint8_t>(highest)};
  const auto range = static_cast<float>(highest - lowest);
  const float saturation = range / static_cast<float>(highest);
  const float from_red = static_cast<float>(highest - red) / range;
  const float from_green = static_cast<float>(highest - green) / range;
  const float from_blue = static_cast<float>(highest - blue) / range;
  float hue = 0;
  if (red == highest) {
    hue = from_blue - from_green;
  } else if (green == highest) {
    hue = static_cast<float>(2.0 + from_red - from_blue);
  } else {
    hue = static_cast<float>(4.0 + from_green - from_red);
  }
  hue = static_cast<float>(std::fmod(hue / 6.0 + 1.0, 1.0));
  return {clip(static_cast<std::int64_t>(hue * 255.0)), clip(static_cast<std::int64_t>(saturation * 255.0)),
          static_cast<std::uint8_t>(highest)};
}

void write_rgb(const std::array<std::uint8_t, 3>& hsv, std::uint8_t* rgb) {
  const std::uint8_t value = hsv[2];
  if (hsv[1] == 0) {
    std::fill(rgb, rgb + kChannels, value);
    return;
  }
  const double sixths = hsv[0] * 6.0 / 255.0;
  const int sixth = static_cast<int>(std::floor(sixths));
  const auto within = static_cast<float>(sixths - static_cast<float>(sixth));
  const auto saturation = static_cast<float>(hsv[1] / 255.0);
  const auto part = [&](double taken) { return clip(static_cast<std::int64_t>(std::round(value * (1.0 - taken)))); };
  const std::uint8_t low = part(saturation);
  const std::uint8_t falling = part(static_cast<double>(saturation * within));
  const std::uint8_t rising = part(saturation * (1.0 - within));
  const std::uint8_t table[6][3] = {{value, rising, low},  {falling, value, low}, {low, value, rising},
                                    {low, falling, value}, {rising, low, value},  {value, low, falling}};
  std::memcpy(rgb, table[sixth % 6], kChannels);
}

void turn_hue(double turn, std::uint8_t* pixels, std::int64_t count) {
  const auto shift = static_cast<std::uint8_t>(static_cast<std::int32_t>(turn * 255));
  for (std::int64_t i = 0; i < count; ++i, pixels += kChannels) {
    std::array<std::uint8_t, 3> hsv = hsv_of(pixels);
    hsv[0] = static_cast<std::uint8_t>(hsv[0] + shift);  // the circle closes at 256
    write_rgb(hsv, pixels);
  }
}

/// To 15 decimals, so that a last bit of cos() that differs between machines does not matter.
double rounded(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.15f", value);
  return std::strtod(text, nullptr);
}

}  // namespace

void apply_pixel_op(const PixelOp& op, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
                    std::vector<std::uint8_t>& scratch) {
  const std::int64_t count = height * width;
  const auto factor = static_cast<float>(op.argument);
  const auto whole = static_cast<int>(op.argument);
  switch (op.kind) {
    case PixelOpKind::kAutoContrast:
      return look_up_by_histogram(stretched, pixels, count);
    case PixelOpKind::kEqualize:
      return look_up_by_histogram(flattened, pixels, count);
    case PixelOpKind::kInvert:
      return look_up(table_of([](int value) { return 255 - value; }), pixels, count);
    case PixelOpKind::kPosterize:
      return look_up(table_of([&](int value) { return value & ~((1 << (8 - whole)) - 1); }), pixels, count);
    case PixelOpKind::kSolarize:
      return look_up(table_of([&](int value) { return value < op.argument ? value : 255 - value; }), pixels, count);
    case PixelOpKind::kSolarizeAdd:
      return look_up(table_of([&](int value) { return value < 128 ? value + whole : value; }), pixels, count);
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

std::array<double, 6> rotation_matrix(double degrees, std::int64_t height, std::int64_t width) {
  const double angle = -std::fmod(std::fmod(degrees, 360.0) + 360.0, 360.0) * (std::numbers::pi / 180.0);
  const double cosine = rounded(std::cos(angle)), sine = rounded(std::sin(angle));
  const double x = static_cast<double>(width) / 2, y = static_cast<double>(height) / 2;
  return {cosine,
          sine,
          cosine * -x + sine * -y + x,
          rounded(-std::sin(angle)),
          cosine,
          rounded(-std::sin(angle)) * -x + cosine * -y + y};
}

}  // namespace qm
