// The arithmetic of kernels/pixel_ops.h on single values, shared by CPU and GPU.
//
// PIL's results are defined by its arithmetic: what is truncated there is truncated here, what is float is float.
// Sources that include this are compiled without fused multiply-adds, which would round other values; without them a
// GPU's IEEE arithmetic gives the CPU's bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/base/host_device.h"

namespace qm::pixel {

inline constexpr int kChannels = 3;

QM_HOST_DEVICE std::uint8_t clip(std::int64_t value) {
  return static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

/// To a whole number downwards, clipped.
template <class Real>
QM_HOST_DEVICE std::uint8_t truncated(Real value) {
  return static_cast<std::uint8_t>(value < Real(0) ? Real(0) : value > Real(255) ? Real(255) : value);
}

/// A grey value of 16.16 fixed-point weights that sum to 1.
QM_HOST_DEVICE std::uint8_t grey_of(const std::uint8_t* pixel) {
  return static_cast<std::uint8_t>((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16);
}

/// Of `count` greys with that sum.
QM_HOST_DEVICE int mean_grey(std::int64_t sum, std::int64_t count) {
  return static_cast<int>(static_cast<double>(sum) / static_cast<double>(count) + 0.5);
}

/// Between the image and a duller one.
QM_HOST_DEVICE std::uint8_t blended(int dull, int value, float factor) {
  return truncated(static_cast<float>(dull) + factor * static_cast<float>(value - dull));
}

// ---- values by themselves -------------------------------------------------------------------------------------------

QM_HOST_DEVICE std::uint8_t posterized(int value, int bits) {
  return clip(value & ~((1 << (8 - bits)) - 1));
}

QM_HOST_DEVICE std::uint8_t solarized(int value, double threshold) {
  return clip(value < threshold ? value : 255 - value);
}

QM_HOST_DEVICE std::uint8_t solarize_added(int value, int summand) {
  return clip(value < 128 ? value + summand : value);
}

/// kAutoContrast of a channel whose values lie in [low, high].
QM_HOST_DEVICE std::uint8_t stretched(int value, int low, int high) {
  if (high <= low) return static_cast<std::uint8_t>(value);
  const double scale = 255.0 / (high - low), offset = -low * scale;
  return clip(static_cast<std::int64_t>(value * scale + offset));
}

/// kEqualize of a channel: what its histogram comes to for all values.
struct Flattening {
  std::int64_t total = 0, last = 0, used = 0;  ///< counts, the last that is not 0, how many are not 0

  QM_HOST_DEVICE void add(std::int64_t count) {
    total += count;
    if (count > 0) last = count, ++used;
  }
  /// Pixels a level; 0 = the channel stays.
  QM_HOST_DEVICE std::int64_t step() const { return used <= 1 ? 0 : (total - last) / 255; }
};

/// `below` is the number of pixels of lower values.
QM_HOST_DEVICE std::uint8_t flattened(int value, std::int64_t below, std::int64_t step) {
  return step == 0 ? static_cast<std::uint8_t>(value) : clip((step / 2 + below) / step);
}

// ---- hue ------------------------------------------------------------------------------------------------------------

/// Hue, saturation and value in 0 … 255; the hue is a sixth of the circle plus where it lies towards the next.
struct Hsv {
  std::uint8_t hue, saturation, value;
};

QM_HOST_DEVICE Hsv hsv_of(const std::uint8_t* rgb) {
  const int red = rgb[0], green = rgb[1], blue = rgb[2];
  const int highest = red > green ? (red > blue ? red : blue) : (green > blue ? green : blue);
  const int lowest = red < green ? (red < blue ? red : blue) : (green < blue ? green : blue);
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
  hue = static_cast<float>(fmod(hue / 6.0 + 1.0, 1.0));
  return {clip(static_cast<std::int64_t>(hue * 255.0)), clip(static_cast<std::int64_t>(saturation * 255.0)),
          static_cast<std::uint8_t>(highest)};
}

QM_HOST_DEVICE std::uint8_t darkened(int value, double taken) {
  return clip(static_cast<std::int64_t>(round(value * (1.0 - taken))));
}

QM_HOST_DEVICE void write_rgb(const Hsv& hsv, std::uint8_t* rgb) {
  const std::uint8_t value = hsv.value;
  if (hsv.saturation == 0) {
    rgb[0] = rgb[1] = rgb[2] = value;
    return;
  }
  const double sixths = hsv.hue * 6.0 / 255.0;
  const int sixth = static_cast<int>(floor(sixths));
  const auto within = static_cast<float>(sixths - static_cast<float>(sixth));
  const auto saturation = static_cast<float>(hsv.saturation / 255.0);
  const std::uint8_t low = darkened(value, saturation);
  const std::uint8_t falling = darkened(value, static_cast<double>(saturation * within));
  const std::uint8_t rising = darkened(value, saturation * (1.0 - within));
  const std::uint8_t table[6][kChannels] = {{value, rising, low},  {falling, value, low}, {low, value, rising},
                                            {low, falling, value}, {rising, low, value},  {value, low, falling}};
  for (int c = 0; c < kChannels; ++c) rgb[c] = table[sixth % 6][c];
}

/// kHue's argument as what is added to a hue; the circle closes at 256.
QM_HOST_DEVICE std::uint8_t hue_shift(double turn) {
  return static_cast<std::uint8_t>(static_cast<std::int32_t>(turn * 255));
}

QM_HOST_DEVICE void turn_hue(std::uint8_t shift, const std::uint8_t* pixel, std::uint8_t* out) {
  Hsv hsv = hsv_of(pixel);
  hsv.hue = static_cast<std::uint8_t>(hsv.hue + shift);
  write_rgb(hsv, out);
}

// ---- sharpness ------------------------------------------------------------------------------------------------------

/// The mean of the 3×3 values around `at`, itself counted five times; `row` is between rows of values.
QM_HOST_DEVICE std::uint8_t smoothed(const std::uint8_t* at, std::int64_t row) {
  constexpr float kAround = 1.0f / 13, kMiddle = 5.0f / 13;
  const auto line = [](const std::uint8_t* in, float middle) {
    return static_cast<float>(in[-kChannels]) * kAround + static_cast<float>(in[0]) * middle +
           static_cast<float>(in[kChannels]) * kAround;
  };
  float sum = 0.5f;
  sum += line(at + row, kAround);
  sum += line(at, kMiddle);
  sum += line(at - row, kAround);
  return static_cast<std::uint8_t>(sum);  // weights sum to 1: below 256
}

// ---- blur -----------------------------------------------------------------------------------------------------------

/// A box filter in 8.24 fixed point: 2 · reach + 1 values weigh `inner` each, the two beyond `outer`.
struct BoxFilter {
  std::int64_t reach;
  std::uint32_t inner, outer;

  QM_HOST_DEVICE std::uint8_t value(std::uint32_t inner_sum, std::uint32_t outer_sum) const {
    return static_cast<std::uint8_t>((inner_sum * inner + outer_sum * outer + (1u << 23)) >> 24);
  }
};

/// The box whose three-fold repetition has the deviation of a Gaussian: a whole radius, and a fraction that weighs the
/// two pixels beyond (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box filtering",
/// 2011).
QM_HOST_DEVICE BoxFilter box_filter(float deviation) {
  const float variance = deviation * deviation / 3;
  const auto length = static_cast<float>(sqrt(12.0 * variance + 1.0));
  const auto whole = static_cast<float>(floor((length - 1.0) / 2.0));
  float fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  fraction /= 6 * (variance - (whole + 1) * (whole + 1));
  const float radius = whole + fraction;
  const auto reach = static_cast<std::int64_t>(radius);
  const auto inner = static_cast<std::uint32_t>(static_cast<float>(1 << 24) / (radius * 2 + 1));
  const auto outer = static_cast<std::uint32_t>(((1 << 24) - (reach * 2 + 1) * static_cast<std::int64_t>(inner)) / 2);
  return {reach, inner, outer};
}

// ---- affine ---------------------------------------------------------------------------------------------------------

struct Place {
  double x, y;
};

/// Where the pixel in row i and column j comes from.
QM_HOST_DEVICE Place source_of(const double* m, std::int64_t i, std::int64_t j) {
  const double x = static_cast<double>(j) + 0.5, y = static_cast<double>(i) + 0.5;
  return {m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]};
}

QM_HOST_DEVICE bool lies_outside(const Place& place, std::int64_t height, std::int64_t width) {
  return place.x < 0 || place.y < 0 || place.x >= static_cast<double>(width) || place.y >= static_cast<double>(height);
}

/// The `kTaps` pixels an axis that surround a place; beyond the edge it goes on with the edge's pixels.
template <int kTaps>
struct Neighbours {
  std::int64_t row[kTaps], column[kTaps];
  double dx, dy;

  QM_HOST_DEVICE static Neighbours of(const Place& place, std::int64_t height, std::int64_t width) {
    Neighbours at;
    const double column = floor(place.x - 0.5), row = floor(place.y - 0.5);
    at.dx = place.x - 0.5 - column;
    at.dy = place.y - 0.5 - row;
    for (std::int64_t k = 0; k < kTaps; ++k) {
      at.column[k] = inside(static_cast<std::int64_t>(column) + k - (kTaps / 2 - 1), width);
      at.row[k] = inside(static_cast<std::int64_t>(row) + k - (kTaps / 2 - 1), height);
    }
    return at;
  }

 private:
  QM_HOST_DEVICE static std::int64_t inside(std::int64_t at, std::int64_t extent) {
    return at < 0 ? 0 : at >= extent ? extent - 1 : at;
  }
};

/// Keys' cubic with a = −1 through four neighbours, at `d` past the second.
template <class Value>
QM_HOST_DEVICE Value cubic(Value v1, Value v2, Value v3, Value v4, double d) {
  const Value p2 = v3 - v1, p3 = 2 * (v1 - v2) + v3 - v4, p4 = -v1 + v2 - v3 + v4;
  return v2 + d * (p2 + d * (p3 + d * p4));
}

/// `value(row, column)` is that of a neighbour.
template <class Value, class ValueAt>
QM_HOST_DEVICE Value sampled(const Neighbours<2>& at, const ValueAt& value) {
  const auto line = [&](int row) -> Value {
    const Value left = value(row, 0);
    return left + (value(row, 1) - left) * at.dx;
  };
  const Value above = line(0);
  return above + (line(1) - above) * at.dy;
}

template <class Value, class ValueAt>
QM_HOST_DEVICE Value sampled(const Neighbours<4>& at, const ValueAt& value) {
  const auto line = [&](int row) -> Value {
    return cubic<Value>(value(row, 0), value(row, 1), value(row, 2), value(row, 3), at.dx);
  };
  // On a row or a column of pixels, as in every shear or shift along an axis, the others weigh nothing.
  if (at.dy == 0) return line(1);
  if (at.dx == 0) return cubic<Value>(value(0, 1), value(1, 1), value(2, 1), value(3, 1), at.dy);
  return cubic<Value>(line(0), line(1), line(2), line(3), at.dy);
}

}  // namespace qm::pixel
