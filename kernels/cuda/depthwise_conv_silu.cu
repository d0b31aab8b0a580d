#include "kernels/depthwise_conv_silu.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/vector.cuh"

// v[b, i, j, d] = Σ_{ki, kj} w[d, ki, kj] x[b, i + ki − 1, j + kj − 1, d],   y = v σ(v)
//
// Backward, with gv = grad_y σ(v) (1 + v (1 − σ(v))) inside the map:
//   grad_x[b, i, j, d]  = Σ_{ki, kj} w[d, ki, kj] gv[b, i − ki + 1, j − kj + 1, d]
//   grad_w[d, ki, kj]  += Σ_{b, i, j} gv[b, i, j, d] x[b, i + ki − 1, j + kj − 1, d]
//
// Between the two gv is stored as activations are.
//
// A thread keeps the nine weights of N neighbouring channels and walks along two rows of the map with their window in
// registers, so every step reads four new vectors for two pixels; neighbouring threads hold neighbouring channels.
namespace qm::cuda {
namespace {

constexpr int kRows = 2;   ///< of the map that a thread walks at once
constexpr int kSpan = 28;  ///< pixels of a row that a thread of the per-pixel kernels walks

/// The window around kRows pixels, one below the other, of N channels of one image; 0 outside the map. Columns take
/// turns in three slots; the column after them is on its way, and not touched before it is wanted.
template <int N, class T>
class Window {
 public:
  using R = Real<T>;

  /// `row` is the first pixel's row, `image` the first channel's element of the image's first pixel.
  __device__ __forceinline__ Window(const DepthwiseShape& s, const T* image, std::int64_t row)
      : width_(static_cast<int>(s.width)), channels_(static_cast<int>(s.channels)) {
#pragma unroll
    for (int r = 0; r < kRows + 2; ++r) {
      const std::int64_t i = row + r - 1;
      line_[r] = i >= 0 && i < s.height ? image + i * s.width * s.channels : nullptr;
    }
  }

  /// body(j, left) for the pixels of columns [first, last); `left` is the slot of column j − 1, known when compiled.
  template <class Body>
  __device__ __forceinline__ void walk(int first, int last, Body body) {
    fetch(first - 1);
    arrive(0);
    fetch(first);
    arrive(1);
    fetch(first + 1);
    for (int j = first; j < last; j += 3) {
#pragma unroll
      for (int left = 0; left < 3; ++left) {
        if (j + left >= last) break;
        arrive((left + 2) % 3);
        fetch(j + left + 2);
        body(j + left, left);
      }
    }
  }

  /// Of the pixel in row r: the vector at (ki, kj) of its window.
  __device__ __forceinline__ const R (&at(int r, int ki, int kj, int left) const)[N] {
    return value_[r + ki][(left + kj) % 3];
  }

 private:
  __device__ __forceinline__ void fetch(int j) {
    const bool inside = j >= 0 && j < width_;
    const int offset = j * channels_;
#pragma unroll
    for (int r = 0; r < kRows + 2; ++r) {
      coming_[r] = line_[r] && inside ? Vector<T, N>::load(line_[r] + offset) : Vector<T, N>();
    }
  }
  __device__ __forceinline__ void arrive(int slot) {
#pragma unroll
    for (int r = 0; r < kRows + 2; ++r) {
#pragma unroll
      for (int c = 0; c < N; ++c) value_[r][slot][c] = coming_[r][c];
    }
  }

  int width_, channels_;
  const T* line_[kRows + 2];
  Vector<T, N> coming_[kRows + 2];
  R value_[kRows + 2][3][N];
};

template <int N, class R>
struct Taps {
  R weight[3][3][N];

  /// all (channels, 1, 3, 3)
  __device__ __forceinline__ Taps(const R* all, std::int64_t channel) {
    for (int c = 0; c < N; ++c) {
      for (int k = 0; k < 9; ++k) weight[k / 3][k % 3][c] = all[(channel + c) * 9 + k];
    }
  }
  template <class T>
  __device__ __forceinline__ void correlate(const Window<N, T>& window, int r, int left, R (&sum)[N]) const {
    for (int c = 0; c < N; ++c) sum[c] = 0;
    for (int ki = 0; ki < 3; ++ki) {
      for (int kj = 0; kj < 3; ++kj) {
        for (int c = 0; c < N; ++c) sum[c] += weight[ki][kj][c] * window.at(r, ki, kj, left)[c];
      }
    }
  }
  /// With the taps turned round: what one pixel's gradient hands back to its neighbours.
  template <class T>
  __device__ __forceinline__ void convolve(const Window<N, T>& window, int r, int left, R (&sum)[N]) const {
    for (int c = 0; c < N; ++c) sum[c] = 0;
    for (int ki = 0; ki < 3; ++ki) {
      for (int kj = 0; kj < 3; ++kj) {
        for (int c = 0; c < N; ++c) sum[c] += weight[ki][kj][c] * window.at(r, 2 - ki, 2 - kj, left)[c];
      }
    }
  }
};

/// Of floats to a few units in the last place: both functions are the special-function unit's.
__device__ __forceinline__ float sigmoid(float v) {
  return __fdividef(1.0f, 1.0f + __expf(-v));
}

/// A stretch of kRows rows in the grid of the per-pixel kernels: x runs over rows and stretches, y over groups of
/// channels; block (32 × N channels, 8 stretches).
template <int N>
struct Stretch {
  std::int64_t channel, image, row;
  int first, last;  ///< pixels [first, last) of the rows
  bool exists;

  __device__ __forceinline__ Stretch(std::int64_t batch, std::int64_t height, std::int64_t width,
                                     std::int64_t channels) {
    channel = (static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x) * N;
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kRowLanes + threadIdx.y;
    const std::int64_t in_row = ceil_div(width, kSpan), rows = ceil_div(height, kRows);
    row = index / in_row % rows * kRows;
    image = index / (in_row * rows);
    first = static_cast<int>(index % in_row) * kSpan;
    last = min(static_cast<int>(width), first + kSpan);
    exists = channel < channels && image < batch;
  }

  static dim3 grid(std::int64_t batch, std::int64_t height, std::int64_t width, std::int64_t channels) {
    return dim3(blocks_for(batch * ceil_div(height, kRows) * ceil_div(width, kSpan), kRowLanes),
                blocks_for(channels, kColumns * N));
  }
};

// Stretches of the output, whose rows and columns beyond the map are 0.
// x (batch, height, width, channels), weight (channels, 1, 3, 3), y (batch, out_height, out_width, channels).
template <int N, class T>
__global__ void depthwise_conv_silu_forward_kernel(DepthwiseConvSiluForward<T> p) {
  using R = Real<T>;
  const DepthwiseShape& s = p.shape;
  const Stretch<N> stretch(s.batch, s.out_height, s.out_width, s.channels);
  if (!stretch.exists) return;
  T* y = p.y + (stretch.image * s.out_height + stretch.row) * s.out_width * s.channels + stretch.channel;
  const std::int64_t out_row = s.out_width * s.channels;
  const int channels = static_cast<int>(s.channels);
  const Taps<N, R> taps(p.weight, stretch.channel);
  Window<N, T> window(s, p.x + stretch.image * s.height * s.width * s.channels + stretch.channel, stretch.row);
  window.walk(stretch.first, stretch.last, [&](int j, int left) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (stretch.row + r >= s.out_height) break;
      R v[N];
      taps.correlate(window, r, left, v);
      const bool inside = stretch.row + r < s.height && j < s.width;
      for (int c = 0; c < N; ++c) v[c] = inside ? v[c] * sigmoid(v[c]) : R(0);
      store_vector<N>(v, y + r * out_row + j * channels);
    }
  });
}

// grad_v, and the first stage of grad_w over chunks of the batch's pairs of rows.
// Grid (chunks, channels / 32 N), block (32 × N channels, 8 row lanes): x (batch, height, width, channels),
// weight (channels, 1, 3, 3), grad_y (batch, out_height, out_width, channels), grad_v (batch, height, width, channels),
// partial (chunks, channels, 9).
template <int N, class T>
__global__ void depthwise_conv_silu_gradient_kernel(DepthwiseConvSiluBackward<T> p, std::int64_t chunk_pairs, T* grad_v,
                                                    Real<T>* partial) {
  using R = Real<T>;
  const DepthwiseShape& s = p.shape;
  const std::int64_t channel = (static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x) * N;
  const bool exists = channel < s.channels;
  const Taps<N, R> taps(p.weight, exists ? channel : 0);
  const std::int64_t pairs = ceil_div(s.height, kRows), first = blockIdx.x * chunk_pairs;
  const std::int64_t last = exists ? min(s.batch * pairs, first + chunk_pairs) : first;
  const int width = static_cast<int>(s.width), channels = static_cast<int>(s.channels);
  const std::int64_t out_row = s.out_width * s.channels, map_row = s.width * s.channels;
  R sum[9][N] = {};
  for (std::int64_t pair = first + threadIdx.y; pair < last; pair += kRowLanes) {
    const std::int64_t image = pair / pairs, row = pair % pairs * kRows;
    const T* grad_y = p.grad_y + (image * s.out_height + row) * s.out_width * s.channels + channel;
    T* grad_v_row = grad_v + (image * s.height + row) * s.width * s.channels + channel;
    Vector<T, N> coming[kRows];  // the gradients of the next column
    const auto fetch = [&](int j) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        coming[r] =
            row + r < s.height && j < width ? Vector<T, N>::load(grad_y + r * out_row + j * channels) : Vector<T, N>();
      }
    };
    fetch(0);
    Window<N, T> window(s, p.x + image * s.height * s.width * s.channels + channel, row);
    window.walk(0, width, [&](int j, int left) {
      R grad[kRows][N];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        for (int c = 0; c < N; ++c) grad[r][c] = coming[r][c];
      }
      fetch(j + 1);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        R v[N];
        taps.correlate(window, r, left, v);
        for (int c = 0; c < N; ++c) {
          const R gate = sigmoid(v[c]);
          grad[r][c] *= gate * (R(1) + v[c] * (R(1) - gate));
          for (int k = 0; k < 9; ++k) sum[k][c] += grad[r][c] * window.at(r, k / 3, k % 3, left)[c];
        }
        if (row + r < s.height) store_vector<N>(grad[r], grad_v_row + r * map_row + j * channels);
      }
    });
  }
  for (int c = 0; c < N; ++c) {
    for (int k = 0; k < 9; ++k) {
      const R total = sum_row_lanes(sum[k][c]);
      if (threadIdx.y == 0 && exists) partial[(blockIdx.x * s.channels + channel + c) * 9 + k] = total;
    }
  }
}

// grad_x. Stretches of the map: grad_v, grad_x (batch, height, width, channels), weight (channels, 1, 3, 3).
template <int N, class T>
__global__ void depthwise_conv_silu_backward_kernel(DepthwiseConvSiluBackward<T> p, const T* grad_v) {
  using R = Real<T>;
  const DepthwiseShape& s = p.shape;
  const Stretch<N> stretch(s.batch, s.height, s.width, s.channels);
  if (!stretch.exists) return;
  const std::int64_t image = stretch.image * s.height * s.width * s.channels + stretch.channel;
  T* grad_x = p.grad_x + image + stretch.row * s.width * s.channels;
  const std::int64_t map_row = s.width * s.channels;
  const int channels = static_cast<int>(s.channels);
  const Taps<N, R> taps(p.weight, stretch.channel);
  Window<N, T> window(s, grad_v + image, stretch.row);
  window.walk(stretch.first, stretch.last, [&](int j, int left) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (stretch.row + r >= s.height) break;
      R sum[N];
      taps.convolve(window, r, left, sum);
      store_vector<N>(sum, grad_x + r * map_row + j * channels);
    }
  });
}

template <int N, class T>
void launch_forward(const Stream& stream, const DepthwiseConvSiluForward<T>& p) {
  const DepthwiseShape& s = p.shape;
  depthwise_conv_silu_forward_kernel<N>
      <<<Stretch<N>::grid(s.batch, s.out_height, s.out_width, s.channels), RowChunks::block(), 0, native(stream)>>>(p);
  check_launch("depthwise_conv_silu_forward");
}

template <int N, class T>
void launch_backward(const Stream& stream, const DepthwiseConvSiluBackward<T>& p) {
  const DepthwiseShape& s = p.shape;
  const RowChunks chunks = row_chunks(s.batch * ceil_div(s.height, kRows), kRowLanes);
  const Scratch<T> grad_v(stream, s.batch * s.height * s.width * s.channels);
  const Scratch<Real<T>> partial(stream, chunks.count * s.channels * 9);
  depthwise_conv_silu_gradient_kernel<N><<<chunks.grid(ceil_div(s.channels, N)), chunks.block(), 0, native(stream)>>>(
      p, chunks.rows, grad_v.data(), partial.data());
  check_launch("depthwise_conv_silu_gradient");
  depthwise_conv_silu_backward_kernel<N>
      <<<Stretch<N>::grid(s.batch, s.height, s.width, s.channels), RowChunks::block(), 0, native(stream)>>>(
          p, grad_v.data());
  check_launch("depthwise_conv_silu_backward");
  if (p.grad_weight) add_column_sums(stream, chunks.count, s.channels * 9, partial.data(), p.grad_weight);
}

}  // namespace

template <class T>
void depthwise_conv_silu_forward(const Stream& stream, const DepthwiseConvSiluForward<T>& p) {
  if (p.shape.batch == 0) return;
  if (vectors_fit<2>(p.shape.channels, p.x, p.y)) return launch_forward<2>(stream, p);
  launch_forward<1>(stream, p);
}

template <class T>
void depthwise_conv_silu_backward(const Stream& stream, const DepthwiseConvSiluBackward<T>& p) {
  if (p.shape.batch == 0) return;
  if (vectors_fit<2>(p.shape.channels, p.x, p.grad_y, p.grad_x)) return launch_backward<2>(stream, p);
  launch_backward<1>(stream, p);
}

QM_INSTANTIATE_CUDA(depthwise_conv_silu_forward, DepthwiseConvSiluForward)
QM_INSTANTIATE_CUDA(depthwise_conv_silu_backward, DepthwiseConvSiluBackward)

}  // namespace qm::cuda
