#include "kernels/pixel_ops.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/memory.h"
#include "kernels/pixel_arithmetic.h"

// One stage an operation: every image's k-th. Images lie in two buffers by turns, each stage reading one and writing
// the other, so that an operation may look at other pixels than its own.
//   statistics  histograms and sums of greys, of the images whose operation asks for them
//   table       value → value, of the images whose operation is no more than that
//   apply       a thread a pixel
//   box filter  six times, where an image may be blurred
// Sums are of integers and so do not depend on their order. Compiled without fused multiply-adds (CMakeLists.txt).
namespace qm::cuda {
namespace {

using pixel::kChannels;

constexpr int kValues = 256;         // of a byte, and threads of a block where each has one
constexpr int kPixelsPerThread = 8;  // about
constexpr int kTable = kChannels * kValues;

// A stage of the chain: in, out (batch, height, width, 3), ops (batch, ops_per_image) of which the stage's are at
// `number`.
struct Stage {
  int height, width;
  bool blurs;
  std::int64_t ops_per_image, number;
  const PixelOp* ops;
  const std::uint8_t* in;
  std::uint8_t* out;

  // A copy: bytes that are written might be its own, for all the compiler knows.
  __device__ PixelOp op(std::int64_t image) const { return ops[image * ops_per_image + number]; }
  __device__ int pixels() const { return height * width; }
  __device__ std::int64_t image_bytes() const { return std::int64_t{height} * width * kChannels; }
};

// What a stage gathers about images: counts (batch, 3, 256), greys (batch); both 0 between stages. tables (batch, 3,
// 256)
struct Gathered {
  int* counts;
  unsigned long long* greys;
  std::uint8_t* tables;
};

__device__ __forceinline__ bool has_table(PixelOpKind kind) {
  switch (kind) {
    case PixelOpKind::kAutoContrast:
    case PixelOpKind::kEqualize:
    case PixelOpKind::kInvert:
    case PixelOpKind::kPosterize:
    case PixelOpKind::kSolarize:
    case PixelOpKind::kSolarizeAdd:
    case PixelOpKind::kContrast:
    case PixelOpKind::kBrightness:
      return true;
    default:
      return false;
  }
}

__device__ __forceinline__ int first_pixel() {
  return static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
}
__device__ __forceinline__ int pixel_stride() {
  return static_cast<int>(gridDim.y * blockDim.x);
}

// Grid (batch, parts of an image).
__global__ void pixel_statistics_kernel(Stage stage, Gathered gathered) {
  const std::int64_t image = blockIdx.x;
  const PixelOpKind kind = stage.op(image).kind;
  const std::uint8_t* in = stage.in + image * stage.image_bytes();
  if (kind == PixelOpKind::kAutoContrast || kind == PixelOpKind::kEqualize) {
    __shared__ int counts[kTable];
    for (int i = static_cast<int>(threadIdx.x); i < kTable; i += static_cast<int>(blockDim.x)) counts[i] = 0;
    __syncthreads();
    for (int i = first_pixel(); i < stage.pixels(); i += pixel_stride()) {
      for (int c = 0; c < kChannels; ++c) {
        atomicAdd(&counts[c * kValues + in[static_cast<std::int64_t>(i) * kChannels + c]], 1);
      }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kTable; i += static_cast<int>(blockDim.x)) {
      if (counts[i] > 0) atomicAdd(&gathered.counts[image * kTable + i], counts[i]);
    }
  } else if (kind == PixelOpKind::kContrast) {
    unsigned long long sum = 0;
    for (int i = first_pixel(); i < stage.pixels(); i += pixel_stride()) {
      sum += pixel::grey_of(in + static_cast<std::int64_t>(i) * kChannels);
    }
    for (int lane = kWarp / 2; lane > 0; lane /= 2) sum += __shfl_down_sync(0xffffffffu, sum, lane);
    if (threadIdx.x % kWarp == 0) atomicAdd(&gathered.greys[image], sum);
  }
}

// What a channel's histogram says of all its values.
struct ChannelSummary {
  int low, high;      // values that occur
  std::int64_t step;  // of kEqualize
};

// A block an image, a thread a value.
__global__ void pixel_table_kernel(Stage stage, Gathered gathered) {
  const std::int64_t image = blockIdx.x;
  const PixelOp op = stage.op(image);
  if (!has_table(op.kind)) return;
  const int value = static_cast<int>(threadIdx.x);
  const auto factor = static_cast<float>(op.argument);
  const auto whole = static_cast<int>(op.argument);
  std::uint8_t* table = gathered.tables + image * kTable;
  if (op.kind == PixelOpKind::kAutoContrast || op.kind == PixelOpKind::kEqualize) {
    __shared__ int counts[kTable], below[kTable];
    __shared__ ChannelSummary channels[kChannels];
    for (int c = 0; c < kChannels; ++c) {
      int& gathered_count = gathered.counts[image * kTable + c * kValues + value];
      counts[c * kValues + value] = gathered_count;
      gathered_count = 0;
    }
    __syncthreads();
    if (value < kChannels) {
      const int* own = counts + value * kValues;
      ChannelSummary summary{255, 0, 0};
      pixel::Flattening flattening;
      for (int v = 0; v < kValues; ++v) {
        below[value * kValues + v] = static_cast<int>(flattening.total);
        flattening.add(own[v]);
        if (own[v] == 0) continue;
        summary.low = v < summary.low ? v : summary.low;
        summary.high = v;
      }
      summary.step = flattening.step();
      channels[value] = summary;
    }
    __syncthreads();
    for (int c = 0; c < kChannels; ++c) {
      const ChannelSummary& summary = channels[c];
      table[c * kValues + value] = op.kind == PixelOpKind::kAutoContrast
                                       ? pixel::stretched(value, summary.low, summary.high)
                                       : pixel::flattened(value, below[c * kValues + value], summary.step);
    }
    return;
  }
  std::uint8_t result = 0;
  if (op.kind == PixelOpKind::kContrast) {
    const auto sum = static_cast<std::int64_t>(gathered.greys[image]);
    result = pixel::blended(pixel::mean_grey(sum, stage.pixels()), value, factor);
    __syncthreads();  // all have read
    if (value == 0) gathered.greys[image] = 0;
  } else if (op.kind == PixelOpKind::kInvert) {
    result = static_cast<std::uint8_t>(255 - value);
  } else if (op.kind == PixelOpKind::kPosterize) {
    result = pixel::posterized(value, whole);
  } else if (op.kind == PixelOpKind::kSolarize) {
    result = pixel::solarized(value, op.argument);
  } else if (op.kind == PixelOpKind::kSolarizeAdd) {
    result = pixel::solarize_added(value, whole);
  } else {
    result = pixel::blended(0, value, factor);  // kBrightness
  }
  for (int c = 0; c < kChannels; ++c) table[c * kValues + value] = result;
}

template <int kTaps>
__device__ __forceinline__ void sample(const Stage& stage, const std::uint8_t* in, const pixel::Place& place,
                                       std::uint8_t* out) {
  const auto at = pixel::Neighbours<kTaps>::of(place, stage.height, stage.width);
  for (int c = 0; c < kChannels; ++c) {
    out[c] = pixel::truncated(pixel::sampled<double>(at, [&](int row, int column) {
      return static_cast<double>(in[(at.row[row] * stage.width + at.column[column]) * kChannels + c]);
    }));
  }
}

__device__ __forceinline__ void sharpen_pixel(const Stage& stage, const std::uint8_t* in, int pixel, float factor,
                                              std::uint8_t* out) {
  const int i = pixel / stage.width, j = pixel % stage.width;
  const std::int64_t at = std::int64_t{pixel} * kChannels;
  const bool edge = i == 0 || j == 0 || i == stage.height - 1 || j == stage.width - 1;
  for (int c = 0; c < kChannels; ++c) {
    const std::uint8_t value = in[at + c];
    const std::uint8_t dull = edge ? value : pixel::smoothed(in + at + c, std::int64_t{stage.width} * kChannels);
    out[c] = pixel::blended(dull, value, factor);
  }
}

// Grid (batch, parts of an image); images that are blurred are left to box_filter_kernel.
__global__ void pixel_apply_kernel(Stage stage, const std::uint8_t* tables) {
  const std::int64_t image = blockIdx.x;
  const PixelOp op = stage.op(image);
  if (op.kind == PixelOpKind::kBlur && stage.blurs) return;
  __shared__ std::uint8_t table[kTable];
  const bool looks_up = has_table(op.kind);
  if (looks_up) {
    for (int i = static_cast<int>(threadIdx.x); i < kTable; i += static_cast<int>(blockDim.x)) {
      table[i] = tables[image * kTable + i];
    }
    __syncthreads();
  }
  const std::uint8_t* in = stage.in + image * stage.image_bytes();
  std::uint8_t* out = stage.out + image * stage.image_bytes();
  const auto factor = static_cast<float>(op.argument);
  for (int i = first_pixel(); i < stage.pixels(); i += pixel_stride()) {
    const std::uint8_t* from = in + std::int64_t{i} * kChannels;
    std::uint8_t result[kChannels] = {from[0], from[1], from[2]};
    if (looks_up) {
      for (int c = 0; c < kChannels; ++c) result[c] = table[c * kValues + from[c]];
    } else if (op.kind == PixelOpKind::kColor && factor != 1) {
      const int grey = pixel::grey_of(from);
      for (int c = 0; c < kChannels; ++c) result[c] = pixel::blended(grey, from[c], factor);
    } else if (op.kind == PixelOpKind::kSharpness) {
      sharpen_pixel(stage, in, i, factor, result);
    } else if (op.kind == PixelOpKind::kHue) {
      pixel::turn_hue(pixel::hue_shift(op.argument), from, result);
    } else if (op.kind == PixelOpKind::kAffine) {
      const pixel::Place place = pixel::source_of(op.matrix.data(), i / stage.width, i % stage.width);
      if (pixel::lies_outside(place, stage.height, stage.width)) {
        for (int c = 0; c < kChannels; ++c) result[c] = op.fill[static_cast<std::size_t>(c)];
      } else if (op.interpolation == Interpolation::kBilinear) {
        sample<2>(stage, in, place, result);
      } else {
        sample<4>(stage, in, place, result);
      }
    }
    for (int c = 0; c < kChannels; ++c) out[std::int64_t{i} * kChannels + c] = result[c];
  }
}

// One pass along one axis, of the images that are blurred, from `in` to `out` (batch, height, width, 3). Grid (batch,
// parts of an image). The edge pixels continue outside.
__global__ void box_filter_kernel(Stage stage, const std::uint8_t* in, std::uint8_t* out, bool along_rows) {
  const std::int64_t image = blockIdx.x;
  const PixelOp op = stage.op(image);
  if (op.kind != PixelOpKind::kBlur) return;
  const pixel::BoxFilter filter = pixel::box_filter(static_cast<float>(op.argument));
  in += image * stage.image_bytes();
  out += image * stage.image_bytes();
  for (int i = first_pixel(); i < stage.pixels(); i += pixel_stride()) {
    const int y = i / stage.width, x = i % stage.width;
    const std::int64_t at = along_rows ? x : y, extent = along_rows ? stage.width : stage.height;
    const std::int64_t step = along_rows ? kChannels : std::int64_t{stage.width} * kChannels;
    const std::uint8_t* line = in + (along_rows ? std::int64_t{y} * stage.width : x) * kChannels;
    for (int c = 0; c < kChannels; ++c) {
      const auto value = [&](std::int64_t place) -> std::uint32_t {
        return line[(place < 0 ? 0 : place >= extent ? extent - 1 : place) * step + c];
      };
      std::uint32_t sum = 0;
      for (std::int64_t k = -filter.reach; k <= filter.reach; ++k) sum += value(at + k);
      out[std::int64_t{i} * kChannels + c] =
          filter.value(sum, value(at - filter.reach - 1) + value(at + filter.reach + 1));
    }
  }
}

}  // namespace

void pixel_ops(const Stream& stream, const PixelOps& p) {
  const std::int64_t pixels = p.height * p.width, bytes = p.batch * pixels * kChannels;
  if (bytes == 0) return;
  if (p.ops_per_image == 0) return qm::copy_bytes(stream, p.out, stream.device, p.images, stream.device, bytes);
  const auto parts =
      static_cast<unsigned int>(std::min<std::int64_t>(ceil_div(pixels, kValues * kPixelsPerThread), 65535));
  const dim3 grid(blocks_for(p.batch, 1), parts);
  const Scratch<int> counts(stream, p.batch * kTable);
  const Scratch<unsigned long long> greys(stream, p.batch);
  const Scratch<std::uint8_t> tables(stream, p.batch * kTable);
  const Scratch<std::uint8_t> between(stream, p.ops_per_image > 1 ? bytes : 1);
  const Scratch<std::uint8_t> blurred(stream, p.blurs ? bytes : 1);
  const Gathered gathered{counts.data(), greys.data(), tables.data()};
  qm::zero_bytes(stream, counts.data(), static_cast<std::size_t>(p.batch * kTable) * sizeof(int));
  qm::zero_bytes(stream, greys.data(), static_cast<std::size_t>(p.batch) * sizeof(unsigned long long));

  Stage stage{
      static_cast<int>(p.height), static_cast<int>(p.width), p.blurs, p.ops_per_image, 0, p.ops, p.images, nullptr};
  for (; stage.number < p.ops_per_image; ++stage.number) {
    const bool ends_in_out = (p.ops_per_image - stage.number) % 2 == 1;  // the last stage does
    stage.out = ends_in_out ? p.out : between.data();
    pixel_statistics_kernel<<<grid, kValues, 0, native(stream)>>>(stage, gathered);
    check_launch("pixel_statistics");
    pixel_table_kernel<<<grid.x, kValues, 0, native(stream)>>>(stage, gathered);
    check_launch("pixel_table");
    pixel_apply_kernel<<<grid, kValues, 0, native(stream)>>>(stage, gathered.tables);
    check_launch("pixel_apply");
    const std::uint8_t* from = stage.in;
    for (int pass = 0; p.blurs && pass < 6; ++pass) {
      std::uint8_t* to = pass % 2 == 0 ? blurred.data() : stage.out;  // an even number: ends in out
      box_filter_kernel<<<grid, kValues, 0, native(stream)>>>(stage, from, to, pass < 3);
      check_launch("box_filter");
      from = to;
    }
    stage.in = stage.out;
  }
}

}  // namespace qm::cuda
