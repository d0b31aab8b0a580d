#include "data/transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/base/error.h"
#include "kernels/base/philox.h"

namespace qm {
namespace {

constexpr std::int64_t kChannels = 3;

// ---- resampling -----------------------------------------------------------------------------------------------------
//
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

/// Pixels somewhere in memory: (height, width, 3) with `row_bytes` between rows.
struct View {
  const std::uint8_t* pixels;
  std::int64_t height, width, row_bytes;

  const std::uint8_t* row(std::int64_t y) const { return pixels + y * row_bytes; }
};

View view_of(const Image& image, const Box& box) {
  const std::int64_t row_bytes = image.width * kChannels;
  return {image.pixels.data() + box.top * row_bytes + box.left * kChannels, box.height, box.width, row_bytes};
}

/// in (height, width, 3) → out (height, out_width, 3)
void resample_rows(const View& in, const Taps& taps, std::uint8_t* out) {
  for (std::int64_t y = 0; y < in.height; ++y) {
    const std::uint8_t* row = in.row(y);
    for (const auto& run : taps.runs) {
      const std::uint8_t* pixel = row + run.first * kChannels;
      const std::int32_t* weight = taps.weights.data() + run.weight;
      std::int32_t red = kHalf, green = kHalf, blue = kHalf;
      for (std::int64_t k = 0; k < run.count; ++k, pixel += kChannels) {
        red += weight[k] * pixel[0];
        green += weight[k] * pixel[1];
        blue += weight[k] * pixel[2];
      }
      out[0] = to_pixel(red);
      out[1] = to_pixel(green);
      out[2] = to_pixel(blue);
      out += kChannels;
    }
  }
}

/// in (height, width, 3) → out (out_height, width, 3)
void resample_columns(const View& in, const Taps& taps, std::uint8_t* out) {
  const std::int64_t row_values = in.width * kChannels;
  std::vector<std::int32_t> sums(static_cast<std::size_t>(row_values));
  for (const auto& run : taps.runs) {
    std::fill(sums.begin(), sums.end(), kHalf);
    for (std::int64_t k = 0; k < run.count; ++k) {
      const std::int32_t weight = taps.weights[run.weight + k];
      const std::uint8_t* row = in.row(run.first + k);
      for (std::int64_t i = 0; i < row_values; ++i) sums[i] += weight * row[i];
    }
    for (std::int64_t i = 0; i < row_values; ++i) out[i] = to_pixel(sums[i]);
    out += row_values;
  }
}

void copy_rows(const View& in, std::uint8_t* out) {
  const std::int64_t row_bytes = in.width * kChannels;
  for (std::int64_t y = 0; y < in.height; ++y) std::memcpy(out + y * row_bytes, in.row(y), row_bytes);
}

/// Resamples to (height, width, 3); an axis that keeps its extent would get weights of one and is left out.
void resize_into(View in, std::int64_t height, std::int64_t width, Interpolation interpolation, std::uint8_t* out) {
  const Filter filter = filter_of(interpolation);
  std::vector<std::uint8_t> narrowed;
  if (width != in.width) {
    const Taps taps = make_taps(in.width, width, filter);
    if (height == in.height) return resample_rows(in, taps, out);
    narrowed.resize(static_cast<std::size_t>(in.height * width * kChannels));
    resample_rows(in, taps, narrowed.data());
    in = View{narrowed.data(), in.height, width, width * kChannels};
  }
  if (height == in.height) return copy_rows(in, out);
  resample_columns(in, make_taps(in.height, height, filter), out);
}

Box whole(const Image& image) {
  return {0, 0, image.height, image.width};
}

// ---- random draws ---------------------------------------------------------------------------------------------------

/// The `minor` part of the keys: one stream an operation, so that switching one on or off leaves the others' draws as
/// they were. Fixed, as changing one changes every run.
enum Operation : std::uint32_t { kCropOperation = 0, kFlipOperation = 1 };

PhiloxBlock draw_block(const AugmentKey& key, Operation operation, std::uint32_t draw = 0) {
  return philox(key.seed, RandomPurpose::kAugmentation, key.epoch, operation, key.position, draw);
}

double uniform_between(double low, double high, std::uint32_t word) {
  return low + (high - low) * uniform_open_double(word, 0);
}

/// A uniform integer in [0, bound).
std::int64_t uniform_below(std::int64_t bound, std::uint32_t word) {
  return static_cast<std::int64_t>((static_cast<std::uint64_t>(word) * static_cast<std::uint64_t>(bound)) >> 32);
}

/// Half to even, as Python's round().
std::int64_t round_half_even(double value) {
  return static_cast<std::int64_t>(std::nearbyint(value));
}

/// torchvision's fallback: the largest box of an aspect ratio within bounds, in the middle.
Box central_box_within(const Image& image, const std::array<double, 2>& ratio) {
  Box box = whole(image);
  const double image_ratio = static_cast<double>(image.width) / static_cast<double>(image.height);
  if (image_ratio < ratio[0]) box.height = round_half_even(static_cast<double>(image.width) / ratio[0]);
  if (image_ratio > ratio[1]) box.width = round_half_even(static_cast<double>(image.height) * ratio[1]);
  box.height = std::clamp<std::int64_t>(box.height, 1, image.height);
  box.width = std::clamp<std::int64_t>(box.width, 1, image.width);
  box.top = (image.height - box.height) / 2;
  box.left = (image.width - box.width) / 2;
  return box;
}

/// A box of the image's own size, shifted by up to `padding` pixels each way.
Box draw_shift(const Image& image, std::int64_t padding, const AugmentKey& key) {
  const PhiloxBlock block = draw_block(key, kCropOperation);
  return {uniform_below(2 * padding + 1, block.word[0]) - padding,
          uniform_below(2 * padding + 1, block.word[1]) - padding, image.height, image.width};
}

/// Where a centre crop of `crop` pixels starts on an axis of `extent`: torchvision rounds half to even inside the image
/// and pads the smaller half first where the crop is larger.
std::int64_t center_offset(std::int64_t extent, std::int64_t crop) {
  return crop <= extent ? round_half_even(static_cast<double>(extent - crop) / 2.0) : -((crop - extent) / 2);
}

}  // namespace

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

Image crop_padded(const Image& image, const Box& box) {
  Image cropped{box.height, box.width, {}};
  cropped.pixels.resize(static_cast<std::size_t>(box.height * box.width * kChannels));
  const std::int64_t first_row = std::max<std::int64_t>(box.top, 0);
  const std::int64_t last_row = std::min(box.top + box.height, image.height);
  const std::int64_t first_column = std::max<std::int64_t>(box.left, 0);
  const std::int64_t last_column = std::min(box.left + box.width, image.width);
  if (first_column >= last_column) return cropped;
  for (std::int64_t y = first_row; y < last_row; ++y) {
    std::memcpy(cropped.pixels.data() + ((y - box.top) * box.width + first_column - box.left) * kChannels,
                image.pixels.data() + (y * image.width + first_column) * kChannels,
                static_cast<std::size_t>((last_column - first_column) * kChannels));
  }
  return cropped;
}

Box center_crop_box(const Image& image, std::int64_t height, std::int64_t width) {
  return {center_offset(image.height, height), center_offset(image.width, width), height, width};
}

void flip_horizontal(std::uint8_t* pixels, std::int64_t height, std::int64_t width) {
  for (std::int64_t y = 0; y < height; ++y) {
    std::uint8_t* left = pixels + y * width * kChannels;
    std::uint8_t* right = left + (width - 1) * kChannels;
    for (; left < right; left += kChannels, right -= kChannels) std::swap_ranges(left, left + kChannels, right);
  }
}

Box draw_resized_crop(const Image& image, const AugmentConfig& config, const AugmentKey& key) {
  constexpr std::uint32_t kAttempts = 10;
  const auto image_area = static_cast<double>(image.height * image.width);
  for (std::uint32_t attempt = 0; attempt < kAttempts; ++attempt) {
    const PhiloxBlock block = draw_block(key, kCropOperation, attempt);
    const double area = image_area * uniform_between(config.area[0], config.area[1], block.word[0]);
    const double ratio = std::exp(uniform_between(std::log(config.ratio[0]), std::log(config.ratio[1]), block.word[1]));
    const std::int64_t width = round_half_even(std::sqrt(area * ratio));
    const std::int64_t height = round_half_even(std::sqrt(area / ratio));
    if (width < 1 || width > image.width || height < 1 || height > image.height) continue;
    return {uniform_below(image.height - height + 1, block.word[2]),
            uniform_below(image.width - width + 1, block.word[3]), height, width};
  }
  return central_box_within(image, config.ratio);
}

void augment_train(const Image& image, const AugmentConfig& config, const AugmentKey& key, std::int64_t height,
                   std::int64_t width, std::uint8_t* out) {
  if (config.crop == CropMode::kPad) {
    const Image shifted = crop_padded(image, draw_shift(image, config.padding, key));
    resize_into(view_of(shifted, whole(shifted)), height, width, config.interpolation, out);
  } else {
    const Box box = config.crop == CropMode::kResized ? draw_resized_crop(image, config, key) : whole(image);
    resize_into(view_of(image, box), height, width, config.interpolation, out);
  }
  // The filter is symmetric, so flipping the result is flipping the crop, on fewer pixels.
  if (uniform_between(0, 1, draw_block(key, kFlipOperation).word[0]) < config.flip) flip_horizontal(out, height, width);
}

void transform_eval(const Image& image, const EvalTransformConfig& config, std::int64_t height, std::int64_t width,
                    std::uint8_t* out) {
  if (config.resize == 0) return resize_into(view_of(image, whole(image)), height, width, config.interpolation, out);
  const std::int64_t short_side = std::min(image.height, image.width);
  const Image scaled = resize(image, whole(image), image.height * config.resize / short_side,
                              image.width * config.resize / short_side, config.interpolation);
  const Image cropped = crop_padded(scaled, center_crop_box(scaled, height, width));
  std::memcpy(out, cropped.pixels.data(), cropped.pixels.size());
}

}  // namespace qm
