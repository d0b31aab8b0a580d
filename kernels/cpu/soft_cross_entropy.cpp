#include "kernels/soft_cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/dispatch.h"

namespace qm::cpu {

template <class T>
void soft_cross_entropy_forward(const SoftCrossEntropyForward<T>& p) {
  T loss = 0;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const T* logits = p.logits + b * p.classes;
    const T* targets = p.targets + b * p.classes;
    const T largest = *std::max_element(logits, logits + p.classes);
    T sum = 0;
    for (std::int64_t c = 0; c < p.classes; ++c) sum += std::exp(logits[c] - largest);
    p.log_sum_exp[b] = largest + std::log(sum);
    for (std::int64_t c = 0; c < p.classes; ++c) loss += targets[c] * (p.log_sum_exp[b] - logits[c]);
  }
  *p.loss = static_cast<T>(p.scale) * loss;
}

template <class T>
void soft_cross_entropy_backward(const SoftCrossEntropyBackward<T>& p) {
  const T scale = *p.grad_loss * static_cast<T>(p.scale);
#pragma omp parallel for schedule(static)
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const T* logits = p.logits + b * p.classes;
    const T* targets = p.targets + b * p.classes;
    T mass = 0;
    for (std::int64_t c = 0; c < p.classes; ++c) mass += targets[c];
    for (std::int64_t c = 0; c < p.classes; ++c) {
      p.grad_logits[b * p.classes + c] = scale * (std::exp(logits[c] - p.log_sum_exp[b]) * mass - targets[c]);
    }
  }
}

QM_INSTANTIATE_CPU(soft_cross_entropy_forward, SoftCrossEntropyForward)
QM_INSTANTIATE_CPU(soft_cross_entropy_backward, SoftCrossEntropyBackward)

}  // namespace qm::cpu
