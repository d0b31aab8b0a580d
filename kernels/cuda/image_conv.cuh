// An image's convolution: 3 channels, 3×3 with stride 2 (the first of the stem; formulas in kernels/conv2d.h). There are 27
// numbers under a sum, too few for what cuDNN has: 577 µs forwards for 128 images of 224 × 224 and 48 outputs, whose
// bytes take 64 µs, and 371 µs for the gradients of weights and bias.
#pragma once

#include <limits>

#include "kernels/conv2d.h"
#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/vector.cuh"

namespace qm::cuda {

// ---- forward ---------------------------------------------------------------------------------------------------------

inline constexpr int kImageChannels = 3, kImageStride = 2;
inline constexpr int kImagePixels = 4;  ///< of a row of the output, a thread

/// Whether it is an image's convolution, in shapes that image_conv_kernel<N> takes.
template <int N, class T>
bool is_image_conv(const Conv2dForward<T>& p) {
  const Conv2dShape& s = p.shape;
  return s.in == kImageChannels && s.stride == kImageStride && s.out <= 256 && vectors_fit<N>(s.out, p.y);
}

// A thread kImagePixels neighbouring pixels of N neighbouring outputs; its neighbours the next outputs of these. In
// shared memory the weights (9 · 3, out). x, weight, bias, y as in kernels/conv2d.h, at most 256 outputs.
template <int N, class T>
__global__ void image_conv_kernel(Conv2dForward<T> p) {
  using R = Real<T>;
  constexpr int kIn = kImageChannels, kColumns = (kImagePixels - 1) * kImageStride + 3;
  extern __shared__ __align__(16) char memory[];
  R* const weights = reinterpret_cast<R*>(memory);
  const Conv2dShape& s = p.shape;
  const int out = static_cast<int>(s.out), width = static_cast<int>(s.width);
  for (int i = threadIdx.x; i < 9 * kIn * out; i += blockDim.x) {
    const int o = i % out, k = i / out / kIn, c = i / out % kIn;
    weights[i] = p.weight[(o * kIn + c) * 9 + k];
  }
  __syncthreads();

  const int out_width = static_cast<int>(s.out_width()), in_row = static_cast<int>(ceil_div(out_width, kImagePixels));
  const std::int64_t thread = global_thread(), place = thread / (out / N), line = place / in_row;
  const int o = static_cast<int>(thread % (out / N)) * N, j = static_cast<int>(place % in_row) * kImagePixels;
  const std::int64_t image = line / s.out_height();
  const int i = static_cast<int>(line % s.out_height());
  if (image >= s.batch) return;

  R sum[kImagePixels][N];
  for (int pixel = 0; pixel < kImagePixels; ++pixel) {
    for (int n = 0; n < N; ++n) sum[pixel][n] = p.bias ? p.bias[o + n] : R(0);
  }
  for (int ki = 0; ki < 3; ++ki) {
    const int row = i * kImageStride + ki - 1;
    if (row < 0 || row >= s.height) continue;
    const T* const x = p.x + (image * s.height + row) * width * kIn;
    R value[kColumns][kIn];
#pragma unroll
    for (int t = 0; t < kColumns; ++t) {
      const int column = j * kImageStride + t - 1;
      for (int c = 0; c < kIn; ++c) value[t][c] = column >= 0 && column < width ? to_real(x[column * kIn + c]) : R(0);
    }
#pragma unroll
    for (int kj = 0; kj < 3; ++kj) {
#pragma unroll
      for (int c = 0; c < kIn; ++c) {
        R weight[N];
        load_vector<N>(weights + ((ki * 3 + kj) * kIn + c) * out + o, weight);
#pragma unroll
        for (int pixel = 0; pixel < kImagePixels; ++pixel) {
          for (int n = 0; n < N; ++n) sum[pixel][n] += weight[n] * value[pixel * kImageStride + kj][c];
        }
      }
    }
  }
  T* const y = p.y + (line * out_width + j) * out + o;
#pragma unroll
  for (int pixel = 0; pixel < kImagePixels; ++pixel) {
    if (j + pixel < out_width) store_vector<N>(sum[pixel], y + pixel * out);
  }
}

template <int N, class T>
void image_conv(const Stream& stream, const Conv2dForward<T>& p) {
  const Conv2dShape& s = p.shape;
  const std::int64_t places = s.batch * s.out_height() * ceil_div(s.out_width(), kImagePixels);
  const auto bytes = static_cast<std::size_t>(9 * kImageChannels * s.out) * sizeof(Real<T>);
  image_conv_kernel<N><<<blocks_for(places * (s.out / N)), kBlock, bytes, native(stream)>>>(p);
  check_launch("image_conv");
}

// ---- gradients of weights and bias -----------------------------------------------------------------------------------
//
// grad_w (out, 27) = Σ_pixels grad_y (out) ⊗ the pixel's window (27), a product on the tensor cores with 16 pixels a step,
// and a 28th number of the window, 1, for the bias.

inline constexpr int kGroupPixels = 16;  ///< neighbouring pixels of a row of the output
inline constexpr int kTaps = 9 * kImageChannels, kTapTiles = 4;
/// A row of a group's window in shared memory: columns 2 j − 2 to 2 j + 31 of the image for the group that begins at j.
inline constexpr int kWindowColumns = 2 * kGroupPixels + 2, kWindowWords = kWindowColumns * kImageChannels / 2;

/// Groups of kGroupPixels pixels that rows of the output are taken apart into.
inline std::int64_t image_groups(const Conv2dShape& s) {
  return s.batch * s.out_height() * ceil_div(s.out_width(), kGroupPixels);
}

/// Whether image_conv_backward takes it: an image's convolution in bfloat16 with no gradient of the image.
inline bool is_image_conv(const Conv2dBackward<bfloat16>& p) {
  const Conv2dShape& s = p.shape;
  return s.in == kImageChannels && s.stride == kImageStride && !p.grad_x && s.out <= 64 && s.width % 2 == 0 &&
         vectors_fit<8>(s.out, p.grad_y) && vectors_fit<2>(s.width, p.x) &&
         image_groups(s) <= std::numeric_limits<int>::max();
}

/// A warp's work: M tiles of 16 outputs.
template <int M>
class ImageGradient {
 public:
  /// In shared memory: grad_y of a group (pixels, outputs), and the three rows of the image around it.
  struct Memory {
    alignas(16) bfloat16 grad[kGroupPixels][M * 16 + 8];  // rows apart in their banks
    std::uint32_t window[3][kWindowWords + 1];
  };

  __device__ __forceinline__ ImageGradient(const Conv2dBackward<bfloat16>& p, Memory& memory)
      : p_(p), memory_(memory), lane_(static_cast<int>(threadIdx.x) % kWarp) {
    for (int i = lane_; i < kGroupPixels * (M * 16 + 8); i += kWarp) memory_.grad[0][i] = from_real<bfloat16>(0.0f);
    __syncwarp();
#pragma unroll
    for (int n = 0; n < kTapTiles; ++n) {
      const int tap = n * 8 + lane_ / 4;  // (ki, kj, c)
      const int ki = tap / 9, kj = tap / kImageChannels % 3, c = tap % kImageChannels;
      tap_[n] = tap < kTaps ? (ki * (kWindowWords + 1) * 2) + (kj + 1) * kImageChannels + c : 0;
    }
  }

  /// Asks for a group's part of grad_y and of the image.
  __device__ __forceinline__ void fetch(int group) {
    const Conv2dShape& s = p_.shape;
    const int out_width = static_cast<int>(s.out_width()), out_height = static_cast<int>(s.out_height());
    const int in_row = (out_width + kGroupPixels - 1) / kGroupPixels, line = group / in_row;
    const int j = group % in_row * kGroupPixels, image = line / out_height, i = line % out_height;
    const int out = static_cast<int>(s.out), width = static_cast<int>(s.width), vectors = out / 8;
    const bfloat16* const grad = p_.grad_y + (static_cast<std::int64_t>(line) * out_width + j) * out;
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const int v = lane_ + m * kWarp;
      const bool inside = v < kGroupPixels * vectors && j + v / vectors < out_width;
      grad_[m] = inside ? Vector<bfloat16, 8>::load(grad + v * 8) : Vector<bfloat16, 8>();
    }
#pragma unroll
    for (int k = 0; k < kWindowLoads; ++k) {
      const int word = lane_ + k * kWarp, row = kImageStride * i + word / kWindowWords - 1;
      const int first = (kImageStride * j - 2) * kImageChannels + word % kWindowWords * 2;  // number of the row
      const bool inside = word < 3 * kWindowWords && row >= 0 && row < s.height && first >= 0 &&
                          first < width * kImageChannels;
      const bfloat16* const x = p_.x + (static_cast<std::int64_t>(image) * s.height + row) * width * kImageChannels;
      window_[k] = inside ? *reinterpret_cast<const std::uint32_t*>(x + first) : 0u;
    }
  }

  /// Takes what was asked for to shared memory.
  __device__ __forceinline__ void put() {
    const int vectors = static_cast<int>(p_.shape.out) / 8;
    __syncwarp();  // the group before has been read
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const int v = lane_ + m * kWarp;
      if (v < kGroupPixels * vectors) grad_[m].store(&memory_.grad[v / vectors][v % vectors * 8]);
    }
#pragma unroll
    for (int k = 0; k < kWindowLoads; ++k) {
      const int word = lane_ + k * kWarp;
      if (word < 3 * kWindowWords) memory_.window[word / kWindowWords][word % kWindowWords] = window_[k];
    }
    __syncwarp();
  }

  /// Adds the group in shared memory.
  __device__ __forceinline__ void multiply() {
    const auto* const numbers = reinterpret_cast<const std::uint16_t*>(memory_.window);
    FragmentB windows[kTapTiles];
#pragma unroll
    for (int n = 0; n < kTapTiles; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::uint16_t* const at = numbers + tap_[n] + (lane_ % 4 * 2 + half * 8) * kStep;
        windows[n].b[half] = at[0] | static_cast<std::uint32_t>(at[kStep]) << 16;
      }
    }
    const int last = (kTapTiles - 1) * 8 + lane_ / 4;
    if (last >= kTaps) windows[kTapTiles - 1].b[0] = windows[kTapTiles - 1].b[1] = last == kTaps ? kOnes : 0u;
#pragma unroll
    for (int m = 0; m < M; ++m) {
      FragmentA grad;
      load_transposed(grad.a, &memory_.grad[lane_ % 8 + lane_ / 16 * 8][m * 16 + lane_ / 8 % 2 * 8]);
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
  static constexpr int kStep = kImageStride * kImageChannels;  // numbers between the windows of neighbouring pixels
  static constexpr int kWindowLoads = (3 * kWindowWords + kWarp - 1) / kWarp;
  static constexpr std::uint32_t kOnes = 0x3f803f80u;  // 1, 1

  const Conv2dBackward<bfloat16>& p_;
  Memory& memory_;
  int lane_;
  int tap_[kTapTiles];  ///< of this lane's columns: where in a window that begins at its first column
  Vector<bfloat16, 8> grad_[M];
  std::uint32_t window_[kWindowLoads];
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

inline void image_conv_backward(const Stream& stream, const Conv2dBackward<bfloat16>& p) {
  const std::int64_t out = p.shape.out, groups = image_groups(p.shape);
  const RowChunks chunks = row_chunks(groups);
  const Scratch<float> partial_weight(stream, chunks.count * out * kTaps), partial_bias(stream, chunks.count * out);
  const auto launch = [&]<int M>() {
    image_conv_gradient_kernel<M><<<static_cast<unsigned int>(chunks.count), kBlock, 0, native(stream)>>>(
        p, static_cast<int>(groups), static_cast<int>(chunks.rows), partial_weight.data(), partial_bias.data());
    check_launch("image_conv_gradient");
  };
  if (out <= 16) launch.template operator()<1>();
  else if (out <= 32) launch.template operator()<2>();
  else if (out <= 48) launch.template operator()<3>();
  else launch.template operator()<4>();
  if (p.grad_weight) add_column_sums(stream, chunks.count, out * kTaps, partial_weight.data(), p.grad_weight);
  if (p.grad_bias) add_column_sums(stream, chunks.count, out, partial_bias.data(), p.grad_bias);
}

}  // namespace qm::cuda
