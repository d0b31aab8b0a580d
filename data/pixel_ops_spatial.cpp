#include "data/pixel_ops_spatial.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace qm {
namespace {

constexpr std::int64_t kChannels = 3;

// ---- blur -----------------------------------------------------------------------------------------------------------

/// The radius of the box whose three-fold repetition has the deviation of a Gaussian: a whole part, and a fraction that
/// weighs the two pixels beyond (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box
/// filtering", 2011).
float box_radius(float deviation) {
  const float variance = deviation * deviation / 3;
  const auto length = static_cast<float>(std::sqrt(12.0 * variance + 1.0));
  const auto whole = static_cast<float>(std::floor((length - 1.0) / 2.0));
  float fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  fraction /= 6 * (variance - (whole + 1) * (whole + 1));
  return whole + fraction;
}

/// One axis of a box filter in 8.24 fixed point; the edge pixels continue outside. `step` is between the values of a
/// line of `count`; in and out do not overlap.
void box_filter_line(const std::uint8_t* in, std::uint8_t* out, std::int64_t count, std::int64_t step, float radius) {
  const auto reach = static_cast<std::int64_t>(radius);
  const auto inner = static_cast<std::uint32_t>(static_cast<float>(1 << 24) / (radius * 2 + 1));
  const auto outer = static_cast<std::uint32_t>(((1 << 24) - static_cast<std::int64_t>(reach * 2 + 1) * inner) / 2);
  const auto value = [&](std::int64_t x) -> std::uint32_t {
    return in[std::clamp<std::int64_t>(x, 0, count - 1) * step];
  };
  std::uint32_t sum = 0;
  for (std::int64_t x = -reach; x <= reach; ++x) sum += value(x);
  for (std::int64_t x = 0; x < count; ++x) {
    const std::uint32_t total = sum * inner + (value(x - reach - 1) + value(x + reach + 1)) * outer;
    out[x * step] = static_cast<std::uint8_t>((total + (1u << 23)) >> 24);
    sum += value(x + reach + 1) - value(x - reach);
  }
}

// ---- affine ---------------------------------------------------------------------------------------------------------

/// The channels of a pixel side by side, and a fourth lane of no meaning: the compiler makes one instruction of each
/// operation, and every lane rounds as a double alone would.
using Lanes = double __attribute__((vector_size(4 * sizeof(double))));

constexpr std::int64_t kLaneBytes = 4 * sizeof(float);

/// A pixel of an image that widen() has made of another.
Lanes lanes_of(const std::uint8_t* pixel) {
  float __attribute__((vector_size(kLaneBytes))) values;
  std::memcpy(&values, pixel, sizeof values);
  return __builtin_convertvector(values, Lanes);
}

/// (count, 3) pixels as four floats each.
void widen(const std::uint8_t* pixels, std::int64_t count, std::vector<std::uint8_t>& out) {
  out.resize(static_cast<std::size_t>(count * kLaneBytes));
  for (std::int64_t i = 0; i < count; ++i, pixels += kChannels) {
    const float lanes[] = {static_cast<float>(pixels[0]), static_cast<float>(pixels[1]), static_cast<float>(pixels[2]),
                           0};
    std::memcpy(&out[static_cast<std::size_t>(i * kLaneBytes)], lanes, sizeof lanes);
  }
}

/// Keys' cubic with a = −1 through four neighbours, at `d` past the second.
Lanes cubic(Lanes v1, Lanes v2, Lanes v3, Lanes v4, double d) {
  const Lanes p2 = v3 - v1, p3 = 2 * (v1 - v2) + v3 - v4, p4 = -v1 + v2 - v3 + v4;
  return v2 + d * (p2 + d * (p3 + d * p4));
}

void write_truncated(Lanes value, std::uint8_t* out) {
  for (int c = 0; c < kChannels; ++c) out[c] = static_cast<std::uint8_t>(std::clamp(value[c], 0.0, 255.0));
}

/// The pixels that surround a place; beyond the edge it goes on with the edge's pixels.
template <int kTaps>
struct Neighbours {
  const std::uint8_t* rows[kTaps];
  std::int64_t columns[kTaps];
  double dx, dy;

  Neighbours(const std::uint8_t* pixels, std::int64_t height, std::int64_t width, double x, double y) {
    const double column = std::floor(x - 0.5), row = std::floor(y - 0.5);
    dx = x - 0.5 - column;
    dy = y - 0.5 - row;
    for (std::int64_t k = 0; k < kTaps; ++k) {
      const std::int64_t j = static_cast<std::int64_t>(column) + k - (kTaps / 2 - 1);
      const std::int64_t i = static_cast<std::int64_t>(row) + k - (kTaps / 2 - 1);
      columns[k] = std::clamp<std::int64_t>(j, 0, width - 1) * kLaneBytes;
      rows[k] = pixels + std::clamp<std::int64_t>(i, 0, height - 1) * width * kLaneBytes;
    }
  }

  Lanes value(int row, int column) const { return lanes_of(rows[row] + columns[column]); }
};

void sample_bilinear(const Neighbours<2>& at, std::uint8_t* out) {
  const auto line = [&](int row) { return at.value(row, 0) + (at.value(row, 1) - at.value(row, 0)) * at.dx; };
  const Lanes above = line(0);
  write_truncated(above + (line(1) - above) * at.dy, out);
}

void sample_bicubic(const Neighbours<4>& at, std::uint8_t* out) {
  const auto line = [&](int row) {
    return cubic(at.value(row, 0), at.value(row, 1), at.value(row, 2), at.value(row, 3), at.dx);
  };
  // On a row or a column of pixels, as in every shear or shift along an axis, the others weigh nothing.
  if (at.dy == 0) return write_truncated(line(1), out);
  if (at.dx == 0) {
    return write_truncated(cubic(at.value(0, 1), at.value(1, 1), at.value(2, 1), at.value(3, 1), at.dy), out);
  }
  write_truncated(cubic(line(0), line(1), line(2), line(3), at.dy), out);
}

}  // namespace

void smooth(const std::uint8_t* pixels, std::int64_t height, std::int64_t width, std::vector<std::uint8_t>& out) {
  const std::int64_t row = width * kChannels;
  out.assign(pixels, pixels + height * row);
  constexpr float kAround = 1.0f / 13, kMiddle = 5.0f / 13;
  for (std::int64_t y = 1; y + 1 < height; ++y) {
    const std::uint8_t* __restrict in = pixels + y * row;
    std::uint8_t* __restrict smoothed = out.data() + y * row;
    for (std::int64_t i = kChannels; i < row - kChannels; ++i) {
      const auto line = [&](const std::uint8_t* at, float middle) {
        return static_cast<float>(at[-kChannels]) * kAround + static_cast<float>(at[0]) * middle +
               static_cast<float>(at[kChannels]) * kAround;
      };
      float sum = 0.5f;
      sum += line(in + i + row, kAround);
      sum += line(in + i, kMiddle);
      sum += line(in + i - row, kAround);
      smoothed[i] = static_cast<std::uint8_t>(sum);  // weights sum to 1: below 256
    }
  }
}

void blur(double deviation, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
          std::vector<std::uint8_t>& scratch) {
  const float radius = box_radius(static_cast<float>(deviation));
  if (radius == 0) return;
  const std::int64_t row = width * kChannels, values = height * row;
  scratch.resize(static_cast<std::size_t>(values));
  std::uint8_t* in = pixels;
  std::uint8_t* out = scratch.data();
  for (int pass = 0; pass < 3; ++pass, std::swap(in, out)) {
    for (std::int64_t y = 0; y < height; ++y) {
      for (int c = 0; c < kChannels; ++c)
        box_filter_line(in + y * row + c, out + y * row + c, width, kChannels, radius);
    }
  }
  for (int pass = 0; pass < 3; ++pass, std::swap(in, out)) {
    for (std::int64_t i = 0; i < row; ++i) box_filter_line(in + i, out + i, height, row, radius);
  }
  // Six passes: the result is back where it began.
}

void transform_affine(const PixelOp& op, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
                      std::vector<std::uint8_t>& scratch) {
  widen(pixels, height * width, scratch);
  const auto& m = op.matrix;
  for (std::int64_t i = 0; i < height; ++i) {
    for (std::int64_t j = 0; j < width; ++j, pixels += kChannels) {
      const double from_x = static_cast<double>(j) + 0.5, from_y = static_cast<double>(i) + 0.5;
      const double x = m[0] * from_x + m[1] * from_y + m[2];
      const double y = m[3] * from_x + m[4] * from_y + m[5];
      if (x < 0 || y < 0 || x >= static_cast<double>(width) || y >= static_cast<double>(height)) {
        std::memcpy(pixels, op.fill.data(), kChannels);
      } else if (op.interpolation == Interpolation::kBilinear) {
        sample_bilinear({scratch.data(), height, width, x, y}, pixels);
      } else {
        sample_bicubic({scratch.data(), height, width, x, y}, pixels);
      }
    }
  }
}

}  // namespace qm
