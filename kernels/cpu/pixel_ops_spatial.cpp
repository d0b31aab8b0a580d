#include "kernels/cpu/pixel_ops_spatial.h"

#include <algorithm>
#include <cstring>

#include "kernels/pixel_arithmetic.h"

namespace qm::cpu {
namespace {

using pixel::BoxFilter;
using pixel::kChannels;
using pixel::Neighbours;

/// One axis of a box filter; the edge pixels continue outside. `step` is between the values of a line of `count`; in
/// and out do not overlap.
void box_filter_line(const std::uint8_t* in, std::uint8_t* out, std::int64_t count, std::int64_t step,
                     const BoxFilter& filter) {
  const std::int64_t reach = filter.reach;
  const auto value = [&](std::int64_t x) -> std::uint32_t {
    return in[std::clamp<std::int64_t>(x, 0, count - 1) * step];
  };
  std::uint32_t sum = 0;
  for (std::int64_t x = -reach; x <= reach; ++x) sum += value(x);
  for (std::int64_t x = 0; x < count; ++x) {
    out[x * step] = filter.value(sum, value(x - reach - 1) + value(x + reach + 1));
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

template <int kTaps>
void sample(const std::uint8_t* widened, std::int64_t height, std::int64_t width, const pixel::Place& place,
            std::uint8_t* out) {
  const auto at = Neighbours<kTaps>::of(place, height, width);
  const Lanes value = pixel::sampled<Lanes>(at, [&](int row, int column) {
    return lanes_of(widened + (at.row[row] * width + at.column[column]) * kLaneBytes);
  });
  for (int c = 0; c < kChannels; ++c) out[c] = pixel::truncated(value[c]);
}

}  // namespace

void smooth(const std::uint8_t* pixels, std::int64_t height, std::int64_t width, std::vector<std::uint8_t>& out) {
  const std::int64_t row = width * kChannels;
  out.assign(pixels, pixels + height * row);
  for (std::int64_t y = 1; y + 1 < height; ++y) {
    const std::uint8_t* __restrict in = pixels + y * row;
    std::uint8_t* __restrict dull = out.data() + y * row;
    for (std::int64_t i = kChannels; i < row - kChannels; ++i) dull[i] = pixel::smoothed(in + i, row);
  }
}

void blur(double deviation, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
          std::vector<std::uint8_t>& scratch) {
  const BoxFilter filter = pixel::box_filter(static_cast<float>(deviation));
  const std::int64_t row = width * kChannels, values = height * row;
  scratch.resize(static_cast<std::size_t>(values));
  std::uint8_t* in = pixels;
  std::uint8_t* out = scratch.data();
  for (int pass = 0; pass < 3; ++pass, std::swap(in, out)) {
    for (std::int64_t y = 0; y < height; ++y) {
      for (int c = 0; c < kChannels; ++c)
        box_filter_line(in + y * row + c, out + y * row + c, width, kChannels, filter);
    }
  }
  for (int pass = 0; pass < 3; ++pass, std::swap(in, out)) {
    for (std::int64_t i = 0; i < row; ++i) box_filter_line(in + i, out + i, height, row, filter);
  }
  // Six passes: the result is back where it began.
}

void transform_affine(const PixelOp& op, std::uint8_t* pixels, std::int64_t height, std::int64_t width,
                      std::vector<std::uint8_t>& scratch) {
  widen(pixels, height * width, scratch);
  for (std::int64_t i = 0; i < height; ++i) {
    for (std::int64_t j = 0; j < width; ++j, pixels += kChannels) {
      const pixel::Place place = pixel::source_of(op.matrix.data(), i, j);
      if (pixel::lies_outside(place, height, width)) {
        std::memcpy(pixels, op.fill.data(), kChannels);
      } else if (op.interpolation == Interpolation::kBilinear) {
        sample<2>(scratch.data(), height, width, place, pixels);
      } else {
        sample<4>(scratch.data(), height, width, place, pixels);
      }
    }
  }
}

}  // namespace qm::cpu
