#include "kernels/bias_gelu.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/gelu.cuh"
#include "kernels/cuda/vector.cuh"

namespace qm::cuda {
namespace {

// N elements a thread: x, y (count) = (rows, channels), channels a multiple of N; bias (channels) or null.
template <int N, class T>
__global__ void bias_gelu_forward_kernel(std::int64_t count, std::int64_t channels, const T* x, const Real<T>* bias,
                                         T* y) {
  const std::int64_t i = global_thread() * N;
  if (i >= count) return;
  Real<T> v[N];
  load_vector<N>(x + i, v);
  if (bias) {
    const std::int64_t c = i % channels;
    for (int k = 0; k < N; ++k) v[k] += bias[c + k];
  }
  for (int k = 0; k < N; ++k) v[k] = gelu<T>(v[k]);
  store_vector<N>(v, y + i);
}

// grad_x, and the first stage of grad_bias = Σ_rows grad_x unless `partial` is null.
// Grid (chunks of rows, parts of a row), block as VectorColumns says: x, grad_y, grad_x (rows, channels);
// bias (channels) or null; partial (chunks, channels).
template <int N, class T>
__global__ void __launch_bounds__(VectorColumns::kMostThreads)
    bias_gelu_backward_kernel(std::int64_t rows, std::int64_t chunk_rows, VectorColumns columns,
                              const T* __restrict__ x, const Real<T>* __restrict__ bias, const T* __restrict__ grad_y,
                              T* __restrict__ grad_x, Real<T>* __restrict__ partial) {
  using R = Real<T>;
  const int c = columns.column<N>();
  const std::int64_t first = blockIdx.x * chunk_rows;
  const std::int64_t last = min(rows, first + chunk_rows);
  R sum[N] = {};
  if (c < columns.width) {
    R shift[N] = {};
    for (int k = 0; bias && k < N; ++k) shift[k] = bias[c + k];
#pragma unroll 2
    for (std::int64_t row = first + columns.lane(); row < last; row += columns.lanes) {
      const std::int64_t at = row * columns.width + c;
      R v[N], grad[N];
      load_vector<N>(x + at, v);
      load_vector<N>(grad_y + at, grad);
      for (int k = 0; k < N; ++k) {
        grad[k] *= gelu_derivative<T>(v[k] + shift[k]);
        sum[k] += grad[k];
      }
      store_vector<N>(grad, grad_x + at);
    }
  }
  if (partial) store_lane_sums<N>(columns, sum, partial + static_cast<std::int64_t>(blockIdx.x) * columns.width);
}

template <int N, class T>
void launch_forward(const Stream& stream, const BiasGeluForward<T>& p) {
  const std::int64_t count = p.rows * p.channels;
  bias_gelu_forward_kernel<N>
      <<<blocks_for(count / N), kBlock, 0, native(stream)>>>(count, p.channels, p.x, p.bias, p.y);
  check_launch("bias_gelu_forward");
}

template <int N, class T>
void launch_backward(const Stream& stream, const RowChunks& chunks, const BiasGeluBackward<T>& p, Real<T>* partial) {
  const VectorColumns columns(p.channels, N);
  bias_gelu_backward_kernel<N><<<columns.grid(chunks.count), columns.threads(), 0, native(stream)>>>(
      p.rows, chunks.rows, columns, p.x, p.bias, p.grad_y, p.grad_x, partial);
  check_launch("bias_gelu_backward");
}

}  // namespace

template <class T>
void bias_gelu_forward(const Stream& stream, const BiasGeluForward<T>& p) {
  if (p.rows == 0 || p.channels == 0) return;
  constexpr int kWide = 16 / sizeof(T);
  if (vectors_fit<kWide>(p.channels, p.x, p.y)) {
    launch_forward<kWide>(stream, p);
  } else {
    launch_forward<1>(stream, p);
  }
}

template <class T>
void bias_gelu_backward(const Stream& stream, const BiasGeluBackward<T>& p) {
  if (p.rows == 0) return;
  const RowChunks chunks = row_chunks(p.rows, 16);  // short, so that there are many: a thread has few loads under way
  const Scratch<Real<T>> partial(stream, p.grad_bias ? chunks.count * p.channels : 0);
  Real<T>* const sums = p.grad_bias ? partial.data() : nullptr;
  constexpr int kWide = 16 / sizeof(T);
  if (vectors_fit<kWide>(p.channels, p.x, p.grad_y, p.grad_x)) {
    launch_backward<kWide>(stream, chunks, p, sums);
  } else {
    launch_backward<1>(stream, chunks, p, sums);
  }
  if (p.grad_bias) add_column_sums(stream, chunks.count, p.channels, partial.data(), p.grad_bias);
}

QM_INSTANTIATE_CUDA(bias_gelu_forward, BiasGeluForward)
QM_INSTANTIATE_CUDA(bias_gelu_backward, BiasGeluBackward)

}  // namespace qm::cuda
