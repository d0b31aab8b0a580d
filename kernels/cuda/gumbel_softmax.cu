#include "kernels/gumbel_softmax.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/noise.h"

// soft = softmax(logits + g),   selected = argmax,   grad_logits_i = soft_i (g_i − Σ_j g_j soft_j)
namespace qm::cuda {
namespace {

// A thread an image: logits, noise, soft, one_hot (batch, 4), noise may be null; forced, selected (batch), forced may be
// null; record one, or null.
template <class T>
__global__ void gumbel_softmax_forward_kernel(GumbelSoftmaxForward<T> p) {
  using R = Real<T>;
  const std::int64_t b = global_thread();
  if (b >= p.batch) return;
  float drawn[4] = {};
  if (!p.noise && p.record) gumbel_noise(*p.record, p.site, static_cast<std::uint32_t>(b), drawn);
  R value[4];
  int largest = 0;
  for (int q = 0; q < 4; ++q) {
    value[q] = p.logits[b * 4 + q] + (p.noise ? p.noise[b * 4 + q] : static_cast<R>(drawn[q]));
    if (value[q] > value[largest]) largest = q;
  }
  const int selected = p.forced ? p.forced[b] : largest;
  R power[4], sum = 0;
  for (int q = 0; q < 4; ++q) sum += power[q] = exp(value[q] - value[largest]);
  for (int q = 0; q < 4; ++q) {
    p.soft[b * 4 + q] = power[q] / sum;
    p.one_hot[b * 4 + q] = q == selected ? R(1) : R(0);
  }
  p.selected[b] = selected;
}

// A thread an image: soft, grad_one_hot, grad_logits (batch, 4).
template <class T>
__global__ void gumbel_softmax_backward_kernel(GumbelSoftmaxBackward<T> p) {
  const std::int64_t b = global_thread();
  if (b >= p.batch) return;
  const Real<T>* soft = p.soft + b * 4;
  const Real<T>* grad = p.grad_one_hot + b * 4;
  Real<T> mean = 0;
  for (int q = 0; q < 4; ++q) mean += grad[q] * soft[q];
  for (int q = 0; q < 4; ++q) p.grad_logits[b * 4 + q] = soft[q] * (grad[q] - mean);
}

}  // namespace

template <class T>
void gumbel_softmax_forward(const Stream& stream, const GumbelSoftmaxForward<T>& p) {
  if (p.batch == 0) return;
  gumbel_softmax_forward_kernel<<<blocks_for(p.batch), kBlock, 0, native(stream)>>>(p);
  check_launch("gumbel_softmax_forward");
}

template <class T>
void gumbel_softmax_backward(const Stream& stream, const GumbelSoftmaxBackward<T>& p) {
  if (p.batch == 0) return;
  gumbel_softmax_backward_kernel<<<blocks_for(p.batch), kBlock, 0, native(stream)>>>(p);
  check_launch("gumbel_softmax_backward");
}

QM_INSTANTIATE_REAL_CUDA(gumbel_softmax_forward, GumbelSoftmaxForward)
QM_INSTANTIATE_REAL_CUDA(gumbel_softmax_backward, GumbelSoftmaxBackward)

}  // namespace qm::cuda
