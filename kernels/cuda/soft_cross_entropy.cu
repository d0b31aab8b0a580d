#include "kernels/soft_cross_entropy.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/reduce.cuh"

// loss = scale Σ_b Σ_c target[b, c] (lse_b − logits[b, c]),   lse_b = ln Σ_c e^{logits[b, c]}
// grad_logits = grad_loss scale (softmax(logits) Σ_c target − target)
namespace qm::cuda {
namespace {

// lse and the loss of each row. A block a row: logits, targets (batch, classes), log_sum_exp, row_loss (batch).
template <class T>
__global__ void soft_cross_entropy_row_kernel(SoftCrossEntropyForward<T> p, Real<T>* row_loss) {
  using R = Real<T>;
  const T* logits = p.logits + blockIdx.x * p.classes;
  const R* targets = p.targets + blockIdx.x * p.classes;
  R largest = -INFINITY;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kBlock) largest = max(largest, to_real(logits[c]));
  largest = block_max(largest);
  R sum = 0;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kBlock) sum += exp(to_real(logits[c]) - largest);
  const R log_sum_exp = largest + log(block_sum(sum));
  R loss = 0;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kBlock) loss += targets[c] * (log_sum_exp - to_real(logits[c]));
  loss = block_sum(loss);
  if (threadIdx.x == 0) {
    p.log_sum_exp[blockIdx.x] = log_sum_exp;
    row_loss[blockIdx.x] = loss;
  }
}

// loss = scale Σ row_loss. One block: row_loss (batch), loss (1).
template <class R>
__global__ void soft_cross_entropy_sum_kernel(std::int64_t batch, double scale, const R* row_loss, R* loss) {
  R sum = 0;
  for (std::int64_t b = threadIdx.x; b < batch; b += kBlock) sum += row_loss[b];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *loss = static_cast<R>(scale) * sum;
}

// A block a row: logits, targets, grad_logits (batch, classes), log_sum_exp (batch), grad_loss (1).
template <class T>
__global__ void soft_cross_entropy_backward_kernel(SoftCrossEntropyBackward<T> p) {
  using R = Real<T>;
  const std::int64_t at = blockIdx.x * p.classes;
  const R scale = *p.grad_loss * static_cast<R>(p.scale);
  const R log_sum_exp = p.log_sum_exp[blockIdx.x];
  R mass = 0;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kBlock) mass += p.targets[at + c];
  mass = block_sum(mass);
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kBlock) {
    const R probability = exp(to_real(p.logits[at + c]) - log_sum_exp);
    p.grad_logits[at + c] = from_real<T>(scale * (probability * mass - p.targets[at + c]));
  }
}

}  // namespace

template <class T>
void soft_cross_entropy_forward(const Stream& stream, const SoftCrossEntropyForward<T>& p) {
  const Scratch<Real<T>> row_loss(stream, p.batch);
  if (p.batch > 0) {
    soft_cross_entropy_row_kernel<<<blocks_for(p.batch, 1), kBlock, 0, native(stream)>>>(p, row_loss.data());
    check_launch("soft_cross_entropy_row");
  }
  soft_cross_entropy_sum_kernel<<<1, kBlock, 0, native(stream)>>>(p.batch, p.scale, row_loss.data(), p.loss);
  check_launch("soft_cross_entropy_sum");
}

template <class T>
void soft_cross_entropy_backward(const Stream& stream, const SoftCrossEntropyBackward<T>& p) {
  if (p.batch == 0) return;
  soft_cross_entropy_backward_kernel<<<blocks_for(p.batch, 1), kBlock, 0, native(stream)>>>(p);
  check_launch("soft_cross_entropy_backward");
}

QM_INSTANTIATE_CUDA(soft_cross_entropy_forward, SoftCrossEntropyForward)
QM_INSTANTIATE_CUDA(soft_cross_entropy_backward, SoftCrossEntropyBackward)

}  // namespace qm::cuda
