#include "data/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/base/error.h"

namespace qm {
namespace {

constexpr std::int64_t kChannels = 3;

// Each output pixel is a weighted mean of the input pixels under a filter that is centred on it and, when shrinking,
// stretched by the scale. Rows first, then columns, with 8 bits in between; weights are fixed-point with 22 fractional
// bits: 8 more for the pixel and two for the negative lobes and overshoot of the bicubic filter fill an int32.

constexpr int kWeightBits = 22;

double bilinear(double x) {
  return std::max(0.0, 1.0 - std::abs(x));
}

/// Keys' cubic convolution with a = −1/2.
double bicubic(double x) {
  x = std::abs(x);
  if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5;
  return 0.0;
}

struct Filter {
  double (*value)(double);
  double support;  // zero at and beyond this distance
};

Filter filter_of(Interpolation interpolation) {
  return interpolation == Interpolation::kBilinear ? Filter{bilinear, 1.0} : Filter{bicubic, 2.0};
}

/// Which input pixels, with which weights, make each output pixel of one axis.
struct Taps {
  struct Run {
    std::int64_t first;  // input pixel
    std::int64_t count;
    std::int64_t weight;  // index of the first weight
  };
  std::vector<Run> runs;  // (out_extent)
  std::vector<std::int32_t> weights;
};

std::int32_t to_fixed_point(double weight) {
  return static_cast<std::int32_t>(weight * (1 << kWeightBits) + (weight < 0 ? -0.5 : 0.5));
}

Taps make_taps(std::int64_t in_extent, std::int64_t out_extent, const Filter& filter) {
  const double scale = static_cast<double>(in_extent) / static_cast<double>(out_extent);
  const double stretch = std::max(scale, 1.0);
  const double reach = filter.support * stretch;
  Taps taps;
  std::vector<double> values;
  for (std::int64_t i = 0; i < out_extent; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(center - reach + 0.5), 0);
    const auto last = std::min(static_cast<std::int64_t>(center + reach + 0.5), in_extent);
    values.clear();
    double sum = 0;
    for (std::int64_t x = first; x < last; ++x) {
      values.push_back(filter.value((static_cast<double>(x) - center + 0.5) * (1.0 / stretch)));
      sum += values.back();
    }
    taps.runs.push_back({first, last - first, static_cast<std::int64_t>(taps.weights.size())});
    for (const double value : values) taps.weights.push_back(to_fixed_point(value / sum));
  }
  return taps;
}

std::uint8_t to_pixel(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

constexpr std::int32_t kHalf = 1 << (kWeightBits - 1);

/// Two pixels of four int32, of which the last is 0.
using PixelPair = std::int32_t __attribute__((vector_size(32)));
constexpr std::int64_t kLanes = 4;

PixelPair load_pair(const std::int32_t* values) {
  PixelPair pair;
  std::memcpy(&pair, values, sizeof pair);
  return pair;
}

/// The two halves of a sum, as to_pixel() rounds them.
void write_pixel(PixelPair sum, std::uint8_t* out) {
  using Pixel = std::int32_t __attribute__((vector_size(16)));
  using Bytes = std::uint8_t __attribute__((vector_size(4)));
  Pixel value = __builtin_shufflevector(sum, sum, 0, 1, 2, 3) + __builtin_shufflevector(sum, sum, 4, 5, 6, 7);
  value >>= kWeightBits;
  value = value < 0 ? Pixel{} : value;
  value = value > 255 ? Pixel{} + 255 : value;
  const Bytes bytes = __builtin_convertvector(value, Bytes);
  std::memcpy(out, &bytes, kChannels);
}

/// in (height, width, 3) → out (height, out_width, 3). Rows are widened and weights repeated lane by lane, so that a
/// step of the sum is two pixels in one vector instruction; all sums take equally many steps, which the processor
/// foresees.
void resample_rows(const PixelView& in, const Taps& taps, std::uint8_t* __restrict out) {
  std::int64_t steps = 0;
  for (const auto& run : taps.runs) steps = std::max(steps, (run.count + 1) / 2);
  std::vector<std::int32_t> weights(taps.runs.size() * static_cast<std::size_t>(steps * 2 * kLanes));
  for (std::size_t i = 0; i < taps.runs.size(); ++i) {
    std::int32_t* weight = weights.data() + static_cast<std::int64_t>(i) * steps * 2 * kLanes;
    for (std::int64_t k = 0; k < taps.runs[i].count; ++k, weight += kLanes) {
      std::fill(weight, weight + kLanes, taps.weights[taps.runs[i].weight + k]);
    }
  }
  std::vector<std::int32_t> row(static_cast<std::size_t>((in.width + 2 * steps) * kLanes));
  for (std::int64_t y = 0; y < in.height; ++y) {
    const std::uint8_t* pixel = in.row(y);
    for (std::int64_t x = 0; x < in.width; ++x, pixel += kChannels) {
      for (std::int64_t c = 0; c < kChannels; ++c) row[x * kLanes + c] = pixel[c];
    }
    const std::int32_t* weight = weights.data();
    for (const auto& run : taps.runs) {
      const std::int32_t* value = row.data() + run.first * kLanes;
      PixelPair sum = {kHalf, kHalf, kHalf};
      for (std::int64_t k = 0; k < steps; ++k, weight += 2 * kLanes, value += 2 * kLanes) {
        sum += load_pair(weight) * load_pair(value);
      }
      write_pixel(sum, out);
      out += kChannels;
    }
  }
}

/// in (height, width, 3) → out (out_height, width, 3)
void resample_columns(const PixelView& in, const Taps& taps, std::uint8_t* out) {
  const std::int64_t row_values = in.width * kChannels;
  std::vector<std::int32_t> sums(static_cast<std::size_t>(row_values));
  for (const auto& run : taps.runs) {
    std::fill(sums.begin(), sums.end(), kHalf);
    for (std::int64_t k = 0; k < run.count; ++k) {
      const std::int32_t weight = taps.weights[run.weight + k];
      const std::uint8_t* __restrict row = in.row(run.first + k);
      std::int32_t* __restrict sum = sums.data();
      for (std::int64_t i = 0; i < row_values; ++i) sum[i] += weight * row[i];
    }
    for (std::int64_t i = 0; i < row_values; ++i) out[i] = to_pixel(sums[i]);
    out += row_values;
  }
}

void copy_rows(const PixelView& in, std::uint8_t* out) {
  const std::int64_t row_bytes = in.width * kChannels;
  for (std::int64_t y = 0; y < in.height; ++y) std::memcpy(out + y * row_bytes, in.row(y), row_bytes);
}

}  // namespace

PixelView view_of(const Image& image, const Box& box) {
  const std::int64_t row_bytes = image.width * kChannels;
  return {image.pixels.data() + box.top * row_bytes + box.left * kChannels, box.height, box.width, row_bytes};
}

// An axis that keeps its extent would get weights of one and is left out.
void resize_into(PixelView in, std::int64_t height, std::int64_t width, Interpolation interpolation,
                 std::uint8_t* out) {
  const Filter filter = filter_of(interpolation);
  std::vector<std::uint8_t> narrowed;
  if (width != in.width) {
    const Taps taps = make_taps(in.width, width, filter);
    if (height == in.height) return resample_rows(in, taps, out);
    narrowed.resize(static_cast<std::size_t>(in.height * width * kChannels));
    resample_rows(in, taps, narrowed.data());
    in = PixelView{narrowed.data(), in.height, width, width * kChannels};
  }
  if (height == in.height) return copy_rows(in, out);
  resample_columns(in, make_taps(in.height, height, filter), out);
}

Image resize(const Image& image, const Box& crop, std::int64_t height, std::int64_t width,
             Interpolation interpolation) {
  const bool inside = crop.top >= 0 && crop.left >= 0 && crop.height > 0 && crop.width > 0 &&
                      crop.top + crop.height <= image.height && crop.left + crop.width <= image.width;
  QM_CHECK(inside, ShapeError, "resize: crop of ", crop.height, " x ", crop.width, " at (", crop.top, ", ", crop.left,
           ") leaves an image of ", image.height, " x ", image.width);
  QM_CHECK(height > 0 && width > 0 && height <= kMaxPixels / width, ShapeError, "resize: ", crop.height, " x ",
           crop.width, " to ", height, " x ", width, " pixels: expected 1 to ", kMaxPixels);
  Image resized{height, width, std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * kChannels))};
  resize_into(view_of(image, crop), height, width, interpolation, resized.pixels.data());
  return resized;
}

}  // namespace qm
