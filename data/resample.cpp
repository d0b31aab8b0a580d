#include "data/resample.h"

#include <algorithm>
#include <bit>
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
  std::vector<Run> runs;  // (out.count)
  std::vector<std::int32_t> weights;
};

std::int32_t to_fixed_point(double weight) {
  return static_cast<std::int32_t>(weight * (1 << kWeightBits) + (weight < 0 ? -0.5 : 0.5));
}

/// Part of an axis: pixels first … first + count − 1 of `extent`.
struct Part {
  std::int64_t first, count, extent;

  bool is_all() const { return count == extent; }
};

/// The whole output axis, of which `out` is wanted, spans [begin, begin + extent] of the input's.
Taps make_taps(double begin, double extent, std::int64_t in_extent, const Part& out, const Filter& filter) {
  const double scale = extent / static_cast<double>(out.extent);
  const double stretch = std::max(scale, 1.0);
  const double reach = filter.support * stretch;
  Taps taps;
  std::vector<double> values;
  for (std::int64_t i = out.first; i < out.first + out.count; ++i) {
    const double center = begin + (static_cast<double>(i) + 0.5) * scale;
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

/// The pixels of two rows in a column, each as four int32, of which the last has no meaning.
using PixelPair = std::int32_t __attribute__((vector_size(32)));
constexpr std::int64_t kLanes = 4;
/// Rows that are resampled together: they share the weights, and their sums fill the vector registers.
constexpr std::int64_t kPairs = 4, kRows = 2 * kPairs;

using Pixel = std::int32_t __attribute__((vector_size(16)));
using Words = std::uint32_t __attribute__((vector_size(16)));
using Bytes = std::uint8_t __attribute__((vector_size(16)));  // shuffled, since GCC converts bytes one by one

/// in (width, 3) → lanes of one row in columns of kRows.
void widen(const std::uint8_t* in, std::int64_t width, std::int32_t* lanes) {
  for (std::int64_t x = 0; x + 1 < width; ++x, in += kChannels, lanes += kRows * kLanes) {
    std::uint32_t four;
    std::memcpy(&four, in, sizeof four);  // the last is of the next pixel, and in a lane that nobody looks at
    const Bytes bytes = std::bit_cast<Bytes>(Words{four}), zeros{};
    const Bytes spread =
        __builtin_shufflevector(bytes, zeros, 0, 16, 16, 16, 1, 16, 16, 16, 2, 16, 16, 16, 3, 16, 16, 16);
    std::memcpy(lanes, &spread, sizeof spread);
  }
  for (std::int64_t c = 0; c < kChannels; ++c) lanes[c] = in[c];
}

/// As to_pixel() rounds it.
void write_pixel(Pixel sum, std::uint8_t* out) {
  sum >>= kWeightBits;
  sum = sum < 0 ? Pixel{} : sum;
  sum = sum > 255 ? Pixel{} + 255 : sum;
  const Bytes bytes = std::bit_cast<Bytes>(sum);
  const auto four = std::bit_cast<Words>(
      __builtin_shufflevector(bytes, bytes, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12))[0];
  std::memcpy(out, &four, kChannels);
}

/// in (height, width, 3) → out (height, out_width, 3)
void resample_rows(const PixelView& in, const Taps& taps, std::uint8_t* out) {
  const auto out_width = static_cast<std::int64_t>(taps.runs.size());
  std::vector<PixelPair> columns(static_cast<std::size_t>(in.width * kPairs));  // (in.width, kPairs)
  for (std::int64_t y = 0; y < in.height; y += kRows) {
    for (std::int64_t r = 0; r < kRows; ++r) {
      const std::uint8_t* pixel = in.row(std::min(y + r, in.height - 1));  // what is too much is written nowhere
      widen(pixel, in.width, reinterpret_cast<std::int32_t*>(columns.data()) + r * kLanes);
    }
    std::uint8_t past_the_end[kChannels];
    const auto place = [&](std::int64_t r, std::int64_t x) {
      return y + r < in.height ? out + ((y + r) * out_width + x) * kChannels : past_the_end;
    };
    for (std::int64_t x = 0; x < out_width; ++x) {
      const Taps::Run& run = taps.runs[static_cast<std::size_t>(x)];
      const PixelPair* column = columns.data() + run.first * kPairs;
      PixelPair sums[kPairs];
      std::fill(sums, sums + kPairs, PixelPair{} + kHalf);
      for (std::int64_t k = 0; k < run.count; ++k, column += kPairs) {
        const std::int32_t weight = taps.weights[static_cast<std::size_t>(run.weight + k)];
        for (std::int64_t pair = 0; pair < kPairs; ++pair) sums[pair] += weight * column[pair];
      }
      for (std::int64_t pair = 0; pair < kPairs; ++pair) {
        write_pixel(__builtin_shufflevector(sums[pair], sums[pair], 0, 1, 2, 3), place(2 * pair, x));
        write_pixel(__builtin_shufflevector(sums[pair], sums[pair], 4, 5, 6, 7), place(2 * pair + 1, x));
      }
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

/// The part under `rows` and `columns` of `in` under `box`, resampled. An axis that stays as it is would get weights of
/// one and is left out.
void resample(PixelView in, const RealBox& box, const Part& rows, const Part& columns, Interpolation interpolation,
              std::uint8_t* out) {
  const auto stays = [](double begin, double extent, std::int64_t in_extent, const Part& part) {
    return begin == 0 && in_extent == part.extent && extent == static_cast<double>(in_extent) && part.is_all();
  };
  const bool keeps_rows = stays(box.top, box.height, in.height, rows);
  const Filter filter = filter_of(interpolation);
  std::vector<std::uint8_t> narrowed;
  if (!stays(box.left, box.width, in.width, columns)) {
    const Taps taps = make_taps(box.left, box.width, in.width, columns, filter);
    if (keeps_rows) return resample_rows(in, taps, out);
    narrowed.resize(static_cast<std::size_t>(in.height * columns.count * kChannels));
    resample_rows(in, taps, narrowed.data());
    in = PixelView{narrowed.data(), in.height, columns.count, columns.count * kChannels};
  }
  if (keeps_rows) return copy_rows(in, out);
  resample_columns(in, make_taps(box.top, box.height, in.height, rows, filter), out);
}

}  // namespace

PixelView view_of(const Image& image, const Box& box) {
  const std::int64_t row_bytes = image.width * kChannels;
  return {image.pixels.data() + box.top * row_bytes + box.left * kChannels, box.height, box.width, row_bytes};
}

void resize_into(PixelView in, std::int64_t height, std::int64_t width, Interpolation interpolation,
                 std::uint8_t* out) {
  const RealBox whole{0, 0, static_cast<double>(in.height), static_cast<double>(in.width)};
  resize_into(in, whole, height, width, interpolation, out);
}

void resize_into(PixelView in, const RealBox& box, std::int64_t height, std::int64_t width, Interpolation interpolation,
                 std::uint8_t* out) {
  resample(in, box, {0, height, height}, {0, width, width}, interpolation, out);
}

Image resize_part(const Image& image, ImageSize to, const Box& part, Interpolation interpolation) {
  const bool inside = part.top >= 0 && part.left >= 0 && part.height > 0 && part.width > 0 &&
                      part.top + part.height <= to.height && part.left + part.width <= to.width;
  QM_CHECK(inside && part.height <= kMaxPixels / part.width, ShapeError, "resize: part of ", part.height, " x ",
           part.width, " at (", part.top, ", ", part.left, ") of ", to.height, " x ", to.width, " pixels");
  Image resized{part.height, part.width,
                std::vector<std::uint8_t>(static_cast<std::size_t>(part.height * part.width * kChannels))};
  const RealBox whole{0, 0, static_cast<double>(image.height), static_cast<double>(image.width)};
  resample(view_of(image, {0, 0, image.height, image.width}), whole, {part.top, part.height, to.height},
           {part.left, part.width, to.width}, interpolation, resized.pixels.data());
  return resized;
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
