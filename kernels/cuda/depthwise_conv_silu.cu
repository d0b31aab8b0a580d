#include "kernels/depthwise_conv_silu.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/column_sum.cuh"

// v[b, i, j, d] = Σ_{ki, kj} w[d, ki, kj] x[b, i + ki − 1, j + kj − 1, d],   y = v σ(v)
//
// Backward, with gv = grad_y σ(v) (1 + v (1 − σ(v))) inside the map:
//   grad_x[b, i, j, d]  = Σ_{ki, kj} w[d, ki, kj] gv[b, i − ki + 1, j − kj + 1, d]
//   grad_w[d, ki, kj]  += Σ_{b, i, j} gv[b, i, j, d] x[b, i + ki − 1, j + kj − 1, d]
//
// A thread keeps one channel's nine weights and walks along a row of the map with the 3×3 window in registers, so every
// step reads three new values; neighbouring threads hold neighbouring channels.
namespace qm::cuda {
namespace {

constexpr int kSpan = 16;  ///< pixels of a row that a thread of the per-pixel kernels walks

/// The window around a pixel, [ki][kj], of one channel of one image; 0 outside the map.
template <class T>
class Window {
 public:
  using R = Real<T>;

  /// `row` is the window's middle row, `image` the channel's element of the image's first pixel.
  __device__ __forceinline__ Window(const DepthwiseShape& s, const T* image, std::int64_t row)
      : shape_(s), image_(image), row_(row) {}

  /// Makes pixel (row, j) the middle, reading all nine values.
  __device__ __forceinline__ void start(std::int64_t j) {
    for (int kj = 0; kj < 3; ++kj) read_column(kj, j + kj - 1);
  }
  /// Moves on to pixel (row, j), from (row, j − 1).
  __device__ __forceinline__ void advance(std::int64_t j) {
    for (int ki = 0; ki < 3; ++ki) {
      value_[ki][0] = value_[ki][1];
      value_[ki][1] = value_[ki][2];
    }
    read_column(2, j + 1);
  }
  __device__ __forceinline__ R at(int ki, int kj) const { return value_[ki][kj]; }

 private:
  __device__ __forceinline__ void read_column(int kj, std::int64_t j) {
    for (int ki = 0; ki < 3; ++ki) {
      const std::int64_t i = row_ + ki - 1;
      const bool inside = i >= 0 && i < shape_.height && j >= 0 && j < shape_.width;
      value_[ki][kj] = inside ? to_real(image_[(i * shape_.width + j) * shape_.channels]) : R(0);
    }
  }

  const DepthwiseShape& shape_;
  const T* image_;
  std::int64_t row_;
  R value_[3][3];
};

template <class R>
struct Taps {
  R weight[3][3];

  /// weight (channels, 1, 3, 3)
  __device__ __forceinline__ Taps(const R* all, std::int64_t channel) {
    for (int k = 0; k < 9; ++k) weight[k / 3][k % 3] = all[channel * 9 + k];
  }
  template <class T>
  __device__ __forceinline__ R correlate(const Window<T>& window) const {
    R sum = 0;
    for (int ki = 0; ki < 3; ++ki) {
      for (int kj = 0; kj < 3; ++kj) sum += weight[ki][kj] * window.at(ki, kj);
    }
    return sum;
  }
  /// With the taps turned round: what one pixel's gradient hands back to its neighbours.
  template <class T>
  __device__ __forceinline__ R convolve(const Window<T>& window) const {
    R sum = 0;
    for (int ki = 0; ki < 3; ++ki) {
      for (int kj = 0; kj < 3; ++kj) sum += weight[ki][kj] * window.at(2 - ki, 2 - kj);
    }
    return sum;
  }
};

template <class R>
__device__ __forceinline__ R sigmoid(R v) {
  return R(1) / (R(1) + exp(-v));
}

/// A stretch of a row in the grid of the per-pixel kernels: x runs over rows and stretches, y over groups of channels;
/// block (32 channels, 8 stretches).
struct Stretch {
  std::int64_t channel, image, row, first, last;  ///< pixels [first, last) of the row
  bool exists;

  __device__ __forceinline__ Stretch(std::int64_t batch, std::int64_t height, std::int64_t width,
                                     std::int64_t channels) {
    channel = static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x;
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kRowLanes + threadIdx.y;
    const std::int64_t in_row = ceil_div(width, kSpan);
    row = index / in_row % height;
    image = index / (in_row * height);
    first = index % in_row * kSpan;
    last = min(width, first + kSpan);
    exists = channel < channels && image < batch;
  }

  static dim3 grid(std::int64_t batch, std::int64_t height, std::int64_t width, std::int64_t channels) {
    return dim3(blocks_for(batch * height * ceil_div(width, kSpan), kRowLanes), blocks_for(channels, kColumns));
  }
};

// Stretches of the output, whose rows and columns beyond the map are 0.
// x (batch, height, width, channels), weight (channels, 1, 3, 3), y (batch, out_height, out_width, channels).
template <class T>
__global__ void depthwise_conv_silu_forward_kernel(DepthwiseConvSiluForward<T> p) {
  using R = Real<T>;
  const DepthwiseShape& s = p.shape;
  const Stretch stretch(s.batch, s.out_height, s.out_width, s.channels);
  if (!stretch.exists) return;
  T* y = p.y + (stretch.image * s.out_height + stretch.row) * s.out_width * s.channels + stretch.channel;
  const Taps<R> taps(p.weight, stretch.channel);
  Window<T> window(s, p.x + stretch.image * s.height * s.width * s.channels + stretch.channel, stretch.row);
  window.start(stretch.first);
  for (std::int64_t j = stretch.first; j < stretch.last; ++j) {
    if (j > stretch.first) window.advance(j);
    const R v = taps.correlate(window);
    const bool inside = stretch.row < s.height && j < s.width;
    y[j * s.channels] = from_real<T>(inside ? v * sigmoid(v) : R(0));
  }
}

// grad_v, and the first stage of grad_w over chunks of the batch's rows.
// Grid (chunks, channels / 32), block (32 channels, 8 row lanes): x (batch, height, width, channels),
// weight (channels, 1, 3, 3), grad_y (batch, out_height, out_width, channels), grad_v (batch, height, width, channels),
// partial (chunks, channels, 9).
template <class T>
__global__ void depthwise_conv_silu_gradient_kernel(DepthwiseConvSiluBackward<T> p, std::int64_t chunk_rows,
                                                    Real<T>* grad_v, Real<T>* partial) {
  using R = Real<T>;
  const DepthwiseShape& s = p.shape;
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x;
  const bool exists = c < s.channels;
  const Taps<R> taps(p.weight, exists ? c : 0);
  const std::int64_t first = blockIdx.x * chunk_rows;
  const std::int64_t last = exists ? min(s.batch * s.height, first + chunk_rows) : first;
  R sum[9] = {};
  for (std::int64_t row = first + threadIdx.y; row < last; row += kRowLanes) {
    const std::int64_t image = row / s.height, i = row % s.height;
    const T* grad_y = p.grad_y + (image * s.out_height + i) * s.out_width * s.channels + c;
    R* grad_v_row = grad_v + row * s.width * s.channels + c;
    Window<T> window(s, p.x + image * s.height * s.width * s.channels + c, i);
    window.start(0);
    for (std::int64_t j = 0; j < s.width; ++j) {
      if (j > 0) window.advance(j);
      const R v = taps.correlate(window);
      const R gate = sigmoid(v);
      const R grad = to_real(grad_y[j * s.channels]) * gate * (R(1) + v * (R(1) - gate));
      grad_v_row[j * s.channels] = grad;
      for (int k = 0; k < 9; ++k) sum[k] += grad * window.at(k / 3, k % 3);
    }
  }
  for (int k = 0; k < 9; ++k) {
    const R total = sum_row_lanes(sum[k]);
    if (threadIdx.y == 0 && exists) partial[(blockIdx.x * s.channels + c) * 9 + k] = total;
  }
}

// grad_x. Stretches of the map: grad_v, grad_x (batch, height, width, channels), weight (channels, 1, 3, 3).
template <class T>
__global__ void depthwise_conv_silu_backward_kernel(DepthwiseConvSiluBackward<T> p, const Real<T>* grad_v) {
  using R = Real<T>;
  const DepthwiseShape& s = p.shape;
  const Stretch stretch(s.batch, s.height, s.width, s.channels);
  if (!stretch.exists) return;
  const std::int64_t image = stretch.image * s.height * s.width * s.channels + stretch.channel;
  T* grad_x = p.grad_x + image + stretch.row * s.width * s.channels;
  const Taps<R> taps(p.weight, stretch.channel);
  Window<R> window(s, grad_v + image, stretch.row);
  window.start(stretch.first);
  for (std::int64_t j = stretch.first; j < stretch.last; ++j) {
    if (j > stretch.first) window.advance(j);
    grad_x[j * s.channels] = from_real<T>(taps.convolve(window));
  }
}

}  // namespace

template <class T>
void depthwise_conv_silu_forward(const Stream& stream, const DepthwiseConvSiluForward<T>& p) {
  const DepthwiseShape& s = p.shape;
  if (s.batch == 0) return;
  depthwise_conv_silu_forward_kernel<<<Stretch::grid(s.batch, s.out_height, s.out_width, s.channels),
                                       RowChunks::block(), 0, native(stream)>>>(p);
  check_launch("depthwise_conv_silu_forward");
}

template <class T>
void depthwise_conv_silu_backward(const Stream& stream, const DepthwiseConvSiluBackward<T>& p) {
  const DepthwiseShape& s = p.shape;
  if (s.batch == 0) return;
  const RowChunks chunks = row_chunks(s.batch * s.height, kRowLanes);
  const Scratch<Real<T>> grad_v(stream, s.batch * s.height * s.width * s.channels);
  const Scratch<Real<T>> partial(stream, chunks.count * s.channels * 9);
  depthwise_conv_silu_gradient_kernel<<<chunks.grid(s.channels), chunks.block(), 0, native(stream)>>>(
      p, chunks.rows, grad_v.data(), partial.data());
  check_launch("depthwise_conv_silu_gradient");
  depthwise_conv_silu_backward_kernel<<<Stretch::grid(s.batch, s.height, s.width, s.channels), RowChunks::block(), 0,
                                        native(stream)>>>(p, grad_v.data());
  check_launch("depthwise_conv_silu_backward");
  if (p.grad_weight) add_column_sums(stream, chunks.count, s.channels * 9, partial.data(), p.grad_weight);
}

QM_INSTANTIATE_CUDA(depthwise_conv_silu_forward, DepthwiseConvSiluForward)
QM_INSTANTIATE_CUDA(depthwise_conv_silu_backward, DepthwiseConvSiluBackward)

}  // namespace qm::cuda
