#include "kernels/bias_gelu.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/column_sum.cuh"

// With v = x + b:   y = v Φ(v),   ∂y/∂v = Φ(v) + v φ(v),   Φ(v) = (1 + erf(v/√2)) / 2,   φ(v) = exp(−v²/2) / √(2π)
namespace qm::cuda {
namespace {

template <class R>
__device__ __forceinline__ R gaussian_cdf(R v) {
  return R(0.5) * (R(1) + erf(v * R(0.70710678118654752440)));
}

template <class R>
__device__ __forceinline__ R gaussian_density(R v) {
  return R(0.39894228040143267794) * exp(R(-0.5) * v * v);
}

// A thread an element: x, y (count) = (rows, channels); bias (channels) or null.
template <class T>
__global__ void bias_gelu_forward_kernel(std::int64_t count, std::int64_t channels, const T* x, const Real<T>* bias,
                                         T* y) {
  const std::int64_t i = global_thread();
  if (i >= count) return;
  Real<T> v = to_real(x[i]);
  if (bias) v += bias[i % channels];
  y[i] = from_real<T>(v * gaussian_cdf(v));
}

// grad_x, and the first stage of grad_bias = Σ_rows grad_x unless `partial` is null.
// Grid (chunks of rows, channels / 32), block (32 channels, 8 row lanes): x, grad_y, grad_x (rows, channels);
// bias (channels) or null; partial (chunks, channels).
template <class T>
__global__ void bias_gelu_backward_kernel(std::int64_t rows, std::int64_t chunk_rows, std::int64_t channels,
                                          const T* x, const Real<T>* bias, const T* grad_y, T* grad_x,
                                          Real<T>* partial) {
  using R = Real<T>;
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x;
  const std::int64_t first = blockIdx.x * chunk_rows;
  const std::int64_t last = min(rows, first + chunk_rows);
  R sum = 0;
  if (c < channels) {
    const R shift = bias ? bias[c] : R(0);
    for (std::int64_t row = first + threadIdx.y; row < last; row += kRowLanes) {
      const std::int64_t at = row * channels + c;
      const R v = to_real(x[at]) + shift;
      const R grad = to_real(grad_y[at]) * (gaussian_cdf(v) + v * gaussian_density(v));
      grad_x[at] = from_real<T>(grad);
      sum += grad;
    }
  }
  if (!partial) return;
  sum = sum_row_lanes(sum);
  if (threadIdx.y == 0 && c < channels) partial[blockIdx.x * channels + c] = sum;
}

}  // namespace

template <class T>
void bias_gelu_forward(const Stream& stream, const BiasGeluForward<T>& p) {
  const std::int64_t count = p.rows * p.channels;
  if (count == 0) return;
  bias_gelu_forward_kernel<<<blocks_for(count), kBlock, 0, native(stream)>>>(count, p.channels, p.x, p.bias, p.y);
  check_launch("bias_gelu_forward");
}

template <class T>
void bias_gelu_backward(const Stream& stream, const BiasGeluBackward<T>& p) {
  if (p.rows == 0) return;
  const RowChunks chunks = row_chunks(p.rows);
  const Scratch<Real<T>> partial(stream, p.grad_bias ? chunks.count * p.channels : 0);
  bias_gelu_backward_kernel<<<chunks.grid(p.channels), chunks.block(), 0, native(stream)>>>(
      p.rows, chunks.rows, p.channels, p.x, p.bias, p.grad_y, p.grad_x, p.grad_bias ? partial.data() : nullptr);
  check_launch("bias_gelu_backward");
  if (p.grad_bias) add_column_sums(stream, chunks.count, p.channels, partial.data(), p.grad_bias);
}

QM_INSTANTIATE_CUDA(bias_gelu_forward, BiasGeluForward)
QM_INSTANTIATE_CUDA(bias_gelu_backward, BiasGeluBackward)

}  // namespace qm::cuda
