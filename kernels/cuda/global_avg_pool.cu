#include "kernels/global_avg_pool.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/launch.cuh"

// y[b, c] = 1/length Σ_l x[b, l, c],   grad_x[b, l, c] = grad_y[b, c] / length
namespace qm::cuda {
namespace {

// A thread a channel of an image: x (batch, length, channels), y (count) = (batch, channels).
template <class T>
__global__ void global_avg_pool_forward_kernel(std::int64_t count, GlobalAvgPoolForward<T> p) {
  const std::int64_t i = global_thread();
  if (i >= count) return;
  const T* x = p.x + i / p.channels * p.length * p.channels + i % p.channels;
  Real<T> sum = 0;
  for (std::int64_t l = 0; l < p.length; ++l) sum += to_real(x[l * p.channels]);
  p.y[i] = sum / static_cast<Real<T>>(p.length);
}

// A thread an element: grad_y (batch, channels), grad_x (count) = (batch, length, channels).
template <class T>
__global__ void global_avg_pool_backward_kernel(std::int64_t count, GlobalAvgPoolBackward<T> p) {
  const std::int64_t i = global_thread();
  if (i >= count) return;
  const std::int64_t image = i / (p.length * p.channels);
  const Real<T> grad = p.grad_y[image * p.channels + i % p.channels];
  p.grad_x[i] = from_real<T>(grad / static_cast<Real<T>>(p.length));
}

}  // namespace

template <class T>
void global_avg_pool_forward(const Stream& stream, const GlobalAvgPoolForward<T>& p) {
  const std::int64_t count = p.batch * p.channels;
  if (count == 0) return;
  global_avg_pool_forward_kernel<<<blocks_for(count), kBlock, 0, native(stream)>>>(count, p);
  check_launch("global_avg_pool_forward");
}

template <class T>
void global_avg_pool_backward(const Stream& stream, const GlobalAvgPoolBackward<T>& p) {
  const std::int64_t count = p.batch * p.length * p.channels;
  if (count == 0) return;
  global_avg_pool_backward_kernel<<<blocks_for(count), kBlock, 0, native(stream)>>>(count, p);
  check_launch("global_avg_pool_backward");
}

QM_INSTANTIATE_CUDA(global_avg_pool_forward, GlobalAvgPoolForward)
QM_INSTANTIATE_CUDA(global_avg_pool_backward, GlobalAvgPoolBackward)

}  // namespace qm::cuda
