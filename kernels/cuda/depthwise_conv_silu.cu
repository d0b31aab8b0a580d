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
// A thread keeps the nine weights of N neighbouring channels and walks along a row of the map with the 3×3 window in
// registers, so every step reads three new vectors; neighbouring threads hold neighbouring channels.
namespace qm::cuda {
namespace {

constexpr int kSpan = 16;  ///< pixels of a row that a thread of the per-pixel kernels walks

/// The window around a pixel, [ki][kj], of N channels of one image; 0 outside the map.
template <int N, class T>
class Window {
 public:
  using R = Real<T>;

  /// `row` is the window's middle row, `image` the first channel's element of the image's first pixel.
  __device__ __forceinline__ Window(const DepthwiseShape& s, const T* image, std::int64_t row)
      : width_(static_cast<int>(s.width)), channels_(static_cast<int>(s.channels)) {
    for (int ki = 0; ki < 3; ++ki) {
      const std::int64_t i = row + ki - 1;
      line_[ki] = i >= 0 && i < s.height ? image + i * s.width * s.channels : nullptr;
    }
  }

  /// Makes column j of the middle row the middle, reading all nine vectors.
  __device__ __forceinline__ void start(int j) {
    for (int kj = 0; kj < 3; ++kj) read_column(kj, j + kj - 1);
  }
  /// Moves on to column j, from j − 1.
  __device__ __forceinline__ void advance(int j) {
    for (int ki = 0; ki < 3; ++ki) {
      for (int c = 0; c < N; ++c) {
        value_[ki][0][c] = value_[ki][1][c];
        value_[ki][1][c] = value_[ki][2][c];
      }
    }
    read_column(2, j + 1);
  }
  __device__ __forceinline__ const R (&at(int ki, int kj) const)[N] { return value_[ki][kj]; }

 private:
  __device__ __forceinline__ void read_column(int kj, int j) {
    for (int ki = 0; ki < 3; ++ki) {
      if (line_[ki] && j >= 0 && j < width_) {
        load_vector<N>(line_[ki] + static_cast<std::int64_t>(j) * channels_, value_[ki][kj]);
      } else {
        for (int c = 0; c < N; ++c) value_[ki][kj][c] = 0;
      }
    }
  }

  int width_, channels_;
  const T* line_[3];
  R value_[3][3][N];
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
  __device__ __forceinline__ void correlate(const Window<N, T>& window, R (&sum)[N]) const {
    for (int c = 0; c < N; ++c) sum[c] = 0;
    for (int ki = 0; ki < 3; ++ki) {
      for (int kj = 0; kj < 3; ++kj) {
        for (int c = 0; c < N; ++c) sum[c] += weight[ki][kj][c] * window.at(ki, kj)[c];
      }
    }
  }
  /// With the taps turned round: what one pixel's gradient hands back to its neighbours.
  template <class T>
  __device__ __forceinline__ void convolve(const Window<N, T>& window, R (&sum)[N]) const {
    for (int c = 0; c < N; ++c) sum[c] = 0;
    for (int ki = 0; ki < 3; ++ki) {
      for (int kj = 0; kj < 3; ++kj) {
        for (int c = 0; c < N; ++c) sum[c] += weight[ki][kj][c] * window.at(2 - ki, 2 - kj)[c];
      }
    }
  }
};

template <class R>
__device__ __forceinline__ R sigmoid(R v) {
  return R(1) / (R(1) + exp(-v));
}

/// A stretch of a row in the grid of the per-pixel kernels: x runs over rows and stretches, y over groups of channels;
/// block (32 × N channels, 8 stretches).
template <int N>
struct Stretch {
  std::int64_t channel, image, row;
  int first, last;  ///< pixels [first, last) of the row
  bool exists;

  __device__ __forceinline__ Stretch(std::int64_t batch, std::int64_t height, std::int64_t width,
                                     std::int64_t channels) {
    channel = (static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x) * N;
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kRowLanes + threadIdx.y;
    const std::int64_t in_row = ceil_div(width, kSpan);
    row = index / in_row % height;
    image = index / (in_row * height);
    first = static_cast<int>(index % in_row) * kSpan;
    last = min(static_cast<int>(width), first + kSpan);
    exists = channel < channels && image < batch;
  }

  static dim3 grid(std::int64_t batch, std::int64_t height, std::int64_t width, std::int64_t channels) {
    return dim3(blocks_for(batch * height * ceil_div(width, kSpan), kRowLanes), blocks_for(channels, kColumns * N));
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
  const Taps<N, R> taps(p.weight, stretch.channel);
  Window<N, T> window(s, p.x + stretch.image * s.height * s.width * s.channels + stretch.channel, stretch.row);
  window.start(stretch.first);
  for (int j = stretch.first; j < stretch.last; ++j) {
    if (j > stretch.first) window.advance(j);
    R v[N];
    taps.correlate(window, v);
    const bool inside = stretch.row < s.height && j < s.width;
    for (int c = 0; c < N; ++c) v[c] = inside ? v[c] * sigmoid(v[c]) : R(0);
    store_vector<N>(v, y + j * s.channels);
  }
}

// grad_v, and the first stage of grad_w over chunks of the batch's rows.
// Grid (chunks, channels / 32 N), block (32 × N channels, 8 row lanes): x (batch, height, width, channels),
// weight (channels, 1, 3, 3), grad_y (batch, out_height, out_width, channels), grad_v (batch, height, width, channels),
// partial (chunks, channels, 9).
template <int N, class T>
__global__ void depthwise_conv_silu_gradient_kernel(DepthwiseConvSiluBackward<T> p, std::int64_t chunk_rows, T* grad_v,
                                                    Real<T>* partial) {
  using R = Real<T>;
  const DepthwiseShape& s = p.shape;
  const std::int64_t channel = (static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x) * N;
  const bool exists = channel < s.channels;
  const Taps<N, R> taps(p.weight, exists ? channel : 0);
  const std::int64_t first = blockIdx.x * chunk_rows;
  const std::int64_t last = exists ? min(s.batch * s.height, first + chunk_rows) : first;
  R sum[9][N] = {};
  for (std::int64_t row = first + threadIdx.y; row < last; row += kRowLanes) {
    const std::int64_t image = row / s.height, i = row % s.height;
    const T* grad_y = p.grad_y + (image * s.out_height + i) * s.out_width * s.channels + channel;
    T* grad_v_row = grad_v + row * s.width * s.channels + channel;
    Window<N, T> window(s, p.x + image * s.height * s.width * s.channels + channel, i);
    window.start(0);
    for (int j = 0; j < s.width; ++j) {
      if (j > 0) window.advance(j);
      R v[N], grad[N];
      load_vector<N>(grad_y + j * s.channels, grad);
      taps.correlate(window, v);
      for (int c = 0; c < N; ++c) {
        const R gate = sigmoid(v[c]);
        grad[c] *= gate * (R(1) + v[c] * (R(1) - gate));
        for (int k = 0; k < 9; ++k) sum[k][c] += grad[c] * window.at(k / 3, k % 3)[c];
      }
      store_vector<N>(grad, grad_v_row + j * s.channels);
    }
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
  const Taps<N, R> taps(p.weight, stretch.channel);
  Window<N, T> window(s, grad_v + image, stretch.row);
  window.start(stretch.first);
  for (int j = stretch.first; j < stretch.last; ++j) {
    if (j > stretch.first) window.advance(j);
    R sum[N];
    taps.convolve(window, sum);
    store_vector<N>(sum, grad_x + j * s.channels);
  }
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
  const RowChunks chunks = row_chunks(s.batch * s.height, kRowLanes);
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
