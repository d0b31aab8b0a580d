// An image's convolution in bfloat16: 3 channels, 3×3 with stride 2 (the first of the stem; formulas in kernels/conv2d.h).
// There are 27 numbers under a sum, too few for what cuDNN has: 577 µs forwards for 128 images of 224 × 224 and 48 outputs,
// whose bytes take 64 µs, and 371 µs for the gradients of weights and bias.
//
// A warp works on a group of 16 neighbouring pixels of a row of the output at a time, on tensor cores. Their windows of 27
// numbers (ki, kj, c) it takes from a strip of the image in shared memory:
//   y (16 pixels, out)  = windows (16, 27) · weight (27, out)
//   grad_w (out, 28)   += grad_y (out, 16 pixels) · windows (16, 28), with a 28th number, 1, for the bias
#pragma once

#include <limits>

#include "kernels/conv2d.h"
#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/vector.cuh"

namespace qm::cuda {

inline constexpr int kImageChannels = 3, kImageStride = 2;
inline constexpr int kGroupPixels = 16;
inline constexpr int kTaps = 9 * kImageChannels, kTapTiles = 4;  ///< numbers of a window; tiles of 8 that hold them
inline constexpr int kTapStep = kImageStride * kImageChannels;   ///< numbers between windows of neighbouring pixels
/// A row of a strip: columns 2 j − 2 to 2 j + 31 of the image for the group that begins at pixel j.
inline constexpr int kStripWords = (2 * kGroupPixels + 2) * kImageChannels / 2;

/// Groups of kGroupPixels pixels that rows of the output are taken apart into.
inline std::int64_t image_groups(const Conv2dShape& s) {
  return s.batch * s.out_height() * ceil_div(s.out_width(), kGroupPixels);
}

/// Whether it is an image's convolution for tensor cores: x and y are the maps that are read and written.
inline bool is_image_conv(const Conv2dShape& s, const bfloat16* x, const bfloat16* y) {
  return s.in == kImageChannels && s.stride == kImageStride && s.out <= 64 && s.width % 2 == 0 &&
         vectors_fit<8>(s.out, y) && vectors_fit<2>(s.width, x) &&
         image_groups(s) <= std::numeric_limits<int>::max();
}

/// Where a group lies: pixels j, j + 1, … of row i of the output of an image; `line` counts rows over all images.
struct ImageGroup {
  int image, i, j, line;

  __device__ __forceinline__ ImageGroup(const Conv2dShape& s, int group) {
    const int out_width = static_cast<int>(s.out_width()), out_height = static_cast<int>(s.out_height());
    const int in_row = (out_width + kGroupPixels - 1) / kGroupPixels;
    line = group / in_row;
    j = group % in_row * kGroupPixels;
    image = line / out_height;
    i = line % out_height;
  }
};

/// The rows of an image around a group, on their way to shared memory: 0 outside the image.
class ImageStrip {
 public:
  struct Memory {
    std::uint32_t word[3][kStripWords + 1];
  };

  /// Where the number `tap` = (ki, kj, c) of the first pixel's window lies.
  __device__ __forceinline__ static int offset_of(int tap) {
    return tap / 9 * (kStripWords + 1) * 2 + (tap / kImageChannels % 3 + 1) * kImageChannels + tap % kImageChannels;
  }

  __device__ __forceinline__ void fetch(const Conv2dShape& s, const bfloat16* all, const ImageGroup& group) {
    const int row_size = static_cast<int>(s.width) * kImageChannels;
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      const int at = static_cast<int>(threadIdx.x) % kWarp + k * kWarp;
      const int row = kImageStride * group.i + at / kStripWords - 1;
      const int first = (kImageStride * group.j - 2) * kImageChannels + at % kStripWords * 2;  // number of the row
      const bool inside =
          at < 3 * kStripWords && row >= 0 && row < s.height && first >= 0 && first < row_size;
      const bfloat16* const x = all + (static_cast<std::int64_t>(group.image) * s.height + row) * row_size;
      coming_[k] = inside ? *reinterpret_cast<const std::uint32_t*>(x + first) : 0u;
    }
  }
  __device__ __forceinline__ void put(Memory& memory) const {
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      const int at = static_cast<int>(threadIdx.x) % kWarp + k * kWarp;
      if (at < 3 * kStripWords) memory.word[at / kStripWords][at % kStripWords] = coming_[k];
    }
  }

 private:
  static constexpr int kLoads = (3 * kStripWords + kWarp - 1) / kWarp;
  std::uint32_t coming_[kLoads];
};

/// Two numbers of a strip as a word, the first in the lower half.
__device__ __forceinline__ std::uint32_t pair_of(const ImageStrip::Memory& strip, int low, int high) {
  const auto* const numbers = reinterpret_cast<const std::uint16_t*>(strip.word);
  return numbers[low] | static_cast<std::uint32_t>(numbers[high]) << 16;
}

/// Pixels of a group by M · 16 outputs, in shared memory; rows lie apart in their banks.
template <int M>
struct ImageTile {
  alignas(16) bfloat16 row[kGroupPixels][M * 16 + 8];
};

// y. A group a warp at a time, `steps` of them: x, weight, bias, y as in kernels/conv2d.h, at most 16 M outputs.
template <int M>
__global__ void __launch_bounds__(kBlock, 2)
    image_conv_forward_kernel(const __grid_constant__ Conv2dForward<bfloat16> p, int groups, int steps) {
  constexpr int kWarps = kBlock / kWarp, kTiles = 2 * M;
  __shared__ ImageStrip::Memory strips[kWarps];
  __shared__ ImageTile<M> tiles[kWarps];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int g = lane / 4, q = lane % 4, out = static_cast<int>(p.shape.out), vectors = out / 8;
  ImageStrip::Memory& memory = strips[warp];
  ImageTile<M>& tile = tiles[warp];

  FragmentB weight[2][kTiles];
  float bias[kTiles][2];
  // Of this lane's numbers of a window. Beyond the last, where the weight is 0, the last again: 0 times an infinite
  // number of another window would make this pixel NaN.
  int offset[2][2][2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int tap = h * 16 + half * 8 + 2 * q;
#pragma unroll
      for (int k = 0; k < 2; ++k) offset[h][half][k] = ImageStrip::offset_of(min(tap + k, kTaps - 1));
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const int o = n * 8 + g;
        float pair[2];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const int t = tap + k;
          pair[k] = t < kTaps && o < out ? p.weight[o * kTaps + t % kImageChannels * 9 + t / kImageChannels] : 0.0f;
        }
        weight[h][n].b[half] = pack_bf16(pair[0], pair[1]);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int o = n * 8 + 2 * q + k;
      bias[n][k] = p.bias && o < out ? p.bias[o] : 0.0f;
    }
  }

  const int begin = (static_cast<int>(blockIdx.x) * steps) * kWarps + warp, end = min(groups, begin + steps * kWarps);
  ImageStrip strip;
  if (begin < end) strip.fetch(p.shape, p.x, ImageGroup(p.shape, begin));
  for (int index = begin; index < end; index += kWarps) {
    __syncwarp();  // the group before has been read
    strip.put(memory);
    __syncwarp();
    if (index + kWarps < end) strip.fetch(p.shape, p.x, ImageGroup(p.shape, index + kWarps));
    float sum[kTiles][4];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) sum[n][k] = bias[n][k % 2];
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      FragmentA windows;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int pixel = (g + k % 2 * 8) * kTapStep;
        windows.a[k] = pair_of(memory, offset[h][k / 2][0] + pixel, offset[h][k / 2][1] + pixel);
      }
#pragma unroll
      for (int n = 0; n < kTiles; ++n) multiply_add(sum[n], windows, weight[h][n]);
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        auto* const pair = reinterpret_cast<std::uint32_t*>(&tile.row[g + k * 8][n * 8 + 2 * q]);
        *pair = pack_bf16(sum[n][2 * k], sum[n][2 * k + 1]);
      }
    }
    __syncwarp();
    const ImageGroup group(p.shape, index);
    const int pixels = min(kGroupPixels, static_cast<int>(p.shape.out_width()) - group.j);
    bfloat16* const y = p.y + (group.line * p.shape.out_width() + group.j) * out;
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const int v = lane + m * kWarp;
      if (v < pixels * vectors) Vector<bfloat16, 8>::load(&tile.row[v / vectors][v % vectors * 8]).store(y + v * 8);
    }
  }
}

/// A warp's part of the gradients of weights and bias: M tiles of 16 outputs.
template <int M>
class ImageGradient {
 public:
  struct Memory {
    ImageTile<M> grad;  ///< grad_y of the group; 0 beyond its pixels and outputs
    ImageStrip::Memory strip;
  };

  __device__ __forceinline__ ImageGradient(const Conv2dBackward<bfloat16>& p, Memory& memory)
      : p_(p), memory_(memory), lane_(static_cast<int>(threadIdx.x) % kWarp) {
    for (int i = lane_; i < kGroupPixels * (M * 16 + 8); i += kWarp) {
      memory_.grad.row[0][i] = from_real<bfloat16>(0.0f);
    }
#pragma unroll
    for (int n = 0; n < kTapTiles; ++n) {
      const int tap = n * 8 + lane_ / 4;
      offset_[n] = tap < kTaps ? ImageStrip::offset_of(tap) : 0;
    }
  }

  /// Asks for a group's part of grad_y and of the image.
  __device__ __forceinline__ void fetch(int index) {
    const ImageGroup group(p_.shape, index);
    const int out = static_cast<int>(p_.shape.out), vectors = out / 8;
    const int pixels = min(kGroupPixels, static_cast<int>(p_.shape.out_width()) - group.j);
    const bfloat16* const grad = p_.grad_y + (group.line * p_.shape.out_width() + group.j) * out;
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const int v = lane_ + m * kWarp;
      grad_[m] = v < pixels * vectors ? Vector<bfloat16, 8>::load(grad + v * 8) : Vector<bfloat16, 8>();
    }
    strip_.fetch(p_.shape, p_.x, group);
  }

  /// Takes what was asked for to shared memory.
  __device__ __forceinline__ void put() {
    const int vectors = static_cast<int>(p_.shape.out) / 8;
    __syncwarp();  // the group before has been read
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const int v = lane_ + m * kWarp;
      if (v < kGroupPixels * vectors) grad_[m].store(&memory_.grad.row[v / vectors][v % vectors * 8]);
    }
    strip_.put(memory_.strip);
    __syncwarp();
  }

  /// Adds the group in shared memory.
  __device__ __forceinline__ void multiply() {
    FragmentB windows[kTapTiles];
#pragma unroll
    for (int n = 0; n < kTapTiles; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = offset_[n] + (lane_ % 4 * 2 + half * 8) * kTapStep;
        windows[n].b[half] = pair_of(memory_.strip, at, at + kTapStep);
      }
    }
    const int last = (kTapTiles - 1) * 8 + lane_ / 4;
    if (last >= kTaps) windows[kTapTiles - 1].b[0] = windows[kTapTiles - 1].b[1] = last == kTaps ? kOnes : 0u;
#pragma unroll
    for (int m = 0; m < M; ++m) {
      FragmentA grad;
      load_transposed(grad.a, &memory_.grad.row[lane_ % 8 + lane_ / 16 * 8][m * 16 + lane_ / 8 % 2 * 8]);
#pragma unroll
      for (int n = 0; n < kTapTiles; ++n) multiply_add(sum_[m][n], grad, windows[n]);
    }
  }

  /// total[output][number of the window] += the sums.
  __device__ __forceinline__ void add_to(float (&total)[M * 16][kTapTiles * 8]) const {
    const int g = lane_ / 4, q = lane_ % 4;
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int n = 0; n < kTapTiles; ++n) {
#pragma unroll
        for (int k = 0; k < 4; ++k) total[m * 16 + g + k / 2 * 8][n * 8 + 2 * q + k % 2] += sum_[m][n][k];
      }
    }
  }

 private:
  static constexpr std::uint32_t kOnes = 0x3f803f80u;  // 1, 1

  const Conv2dBackward<bfloat16>& p_;
  Memory& memory_;
  int lane_;
  int offset_[kTapTiles];  ///< of this lane's numbers of a window
  Vector<bfloat16, 8> grad_[M];
  ImageStrip strip_;
  float sum_[M][kTapTiles][4] = {};
};

// The first stage, over chunks of groups. Grid (chunks), a group a warp at a time: x, grad_y as in kernels/conv2d.h;
// partial_weight (chunks, out, 3, 9), partial_bias (chunks, out).
template <int M>
__global__ void __launch_bounds__(kBlock, 2)
    image_conv_gradient_kernel(const __grid_constant__ Conv2dBackward<bfloat16> p, int groups, int chunk_groups,
                               float* partial_weight, float* partial_bias) {
  constexpr int kWarps = kBlock / kWarp;
  __shared__ typename ImageGradient<M>::Memory memory[kWarps];
  __shared__ float total[M * 16][kTapTiles * 8];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int begin = static_cast<int>(blockIdx.x) * chunk_groups, end = min(groups, begin + chunk_groups);
  ImageGradient<M> gradient(p, memory[warp]);
  if (begin + warp < end) gradient.fetch(begin + warp);
  for (int group = begin + warp; group < end; group += kWarps) {
    gradient.put();
    if (group + kWarps < end) gradient.fetch(group + kWarps);
    gradient.multiply();
  }

  for (int i = threadIdx.x; i < M * 16 * kTapTiles * 8; i += kBlock) total[0][i] = 0;
  for (int turn = 0; turn < kWarps; ++turn) {  // a fixed order
    __syncthreads();
    if (turn == warp) gradient.add_to(total);
  }
  __syncthreads();
  const int out = static_cast<int>(p.shape.out);
  for (int i = threadIdx.x; i < out * (kTaps + 1); i += kBlock) {
    const int o = i / (kTaps + 1), tap = i % (kTaps + 1);
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * out + o;
    if (tap == kTaps) {
      partial_bias[row] = total[o][tap];
    } else {
      partial_weight[row * kTaps + tap % kImageChannels * 9 + tap / kImageChannels] = total[o][tap];
    }
  }
}

/// body.template operator()<M>() for the fewest tiles of 16 outputs that hold them; at most 64.
template <class Body>
void with_output_tiles(std::int64_t out, Body body) {
  if (out <= 16) return body.template operator()<1>();
  if (out <= 32) return body.template operator()<2>();
  if (out <= 48) return body.template operator()<3>();
  body.template operator()<4>();
}

inline void image_conv_forward(const Stream& stream, const Conv2dForward<bfloat16>& p) {
  constexpr int kSteps = 8, kWarps = kBlock / kWarp;  // enough to be worth loading the weights for
  const std::int64_t groups = image_groups(p.shape);
  with_output_tiles(p.shape.out, [&]<int M>() {
    image_conv_forward_kernel<M><<<blocks_for(groups, kSteps * kWarps), kBlock, 0, native(stream)>>>(
        p, static_cast<int>(groups), kSteps);
    check_launch("image_conv_forward");
  });
}

inline void image_conv_backward(const Stream& stream, const Conv2dBackward<bfloat16>& p) {
  const std::int64_t out = p.shape.out, groups = image_groups(p.shape);
  const RowChunks chunks = row_chunks(groups);
  const Scratch<float> partial_weight(stream, chunks.count * out * kTaps), partial_bias(stream, chunks.count * out);
  with_output_tiles(out, [&]<int M>() {
    image_conv_gradient_kernel<M><<<static_cast<unsigned int>(chunks.count), kBlock, 0, native(stream)>>>(
        p, static_cast<int>(groups), static_cast<int>(chunks.rows), partial_weight.data(), partial_bias.data());
    check_launch("image_conv_gradient");
  });
  if (p.grad_weight) add_column_sums(stream, chunks.count, out * kTaps, partial_weight.data(), p.grad_weight);
  if (p.grad_bias) add_column_sums(stream, chunks.count, out, partial_bias.data(), p.grad_bias);
}

}  // namespace qm::cuda
