#include "kernels/score_pool.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/reduce.cuh"

// score_t = x_t0 − ln(e^{x_t0} + e^{x_t1}) = −ln(1 + e^{x_t1 − x_t0}),   logits[q] = mean of the quadrant's scores
// grad_x_t = g_q / (tokens a quadrant) · (p, −p),   p = 1 / (1 + e^{x_t0 − x_t1})
namespace qm::cuda {
namespace {

/// ln(1 + eˣ) without overflow.
template <class R>
__device__ __forceinline__ R log_one_plus_exp(R x) {
  return (x > R(0) ? x : R(0)) + log1p(exp(x > R(0) ? -x : x));
}

// A block an image and quadrant: x (batch, height, width, 2), logits (batch, 4).
template <class T>
__global__ void score_pool_forward_kernel(ScorePoolForward<T> p) {
  using R = Real<T>;
  const std::int64_t image = blockIdx.x / 4;
  const int quadrant = blockIdx.x % 4;
  const std::int64_t height = p.height / 2, width = p.width / 2, tokens = height * width;
  R sum = 0;
  for (std::int64_t t = threadIdx.x; t < tokens; t += kBlock) {
    const std::int64_t i = t / width + (quadrant / 2) * height, j = t % width + (quadrant % 2) * width;
    const T* x = p.x + ((image * p.height + i) * p.width + j) * 2;
    sum -= log_one_plus_exp(to_real(x[1]) - to_real(x[0]));
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) p.logits[blockIdx.x] = sum / static_cast<R>(tokens);
}

// A thread a token: x, grad_x (batch, height, width, 2), grad_logits (batch, 4).
template <class T>
__global__ void score_pool_backward_kernel(std::int64_t count, ScorePoolBackward<T> p) {
  using R = Real<T>;
  const std::int64_t t = global_thread();
  if (t >= count) return;
  const std::int64_t j = t % p.width, i = t / p.width % p.height, image = t / (p.width * p.height);
  const int quadrant = (i >= p.height / 2) * 2 + (j >= p.width / 2);
  const R probability = R(1) / (R(1) + exp(to_real(p.x[t * 2]) - to_real(p.x[t * 2 + 1])));
  const R grad = p.grad_logits[image * 4 + quadrant] / static_cast<R>(p.height * p.width / 4) * probability;
  p.grad_x[t * 2] = from_real<T>(grad);
  p.grad_x[t * 2 + 1] = from_real<T>(-grad);
}

}  // namespace

template <class T>
void score_pool_forward(const Stream& stream, const ScorePoolForward<T>& p) {
  if (p.batch == 0) return;
  score_pool_forward_kernel<<<blocks_for(p.batch * 4, 1), kBlock, 0, native(stream)>>>(p);
  check_launch("score_pool_forward");
}

template <class T>
void score_pool_backward(const Stream& stream, const ScorePoolBackward<T>& p) {
  const std::int64_t count = p.batch * p.height * p.width;
  if (count == 0) return;
  score_pool_backward_kernel<<<blocks_for(count), kBlock, 0, native(stream)>>>(count, p);
  check_launch("score_pool_backward");
}

QM_INSTANTIATE_CUDA(score_pool_forward, ScorePoolForward)
QM_INSTANTIATE_CUDA(score_pool_backward, ScorePoolBackward)

}  // namespace qm::cuda
