#include "kernels/gumbel_softmax.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/dispatch.h"
#include "kernels/noise.h"

namespace qm::cpu {

template <class T>
void gumbel_softmax_forward(const GumbelSoftmaxForward<T>& p) {
  for (std::int64_t b = 0; b < p.batch; ++b) {
    float drawn[4] = {};
    if (!p.noise && p.record) gumbel_noise(*p.record, p.site, static_cast<std::uint32_t>(b), drawn);
    T value[4];
    for (int q = 0; q < 4; ++q) {
      value[q] = p.logits[b * 4 + q] + (p.noise ? p.noise[b * 4 + q] : static_cast<T>(drawn[q]));
    }
    const T* largest = std::max_element(value, value + 4);
    const std::int32_t selected = p.forced ? p.forced[b] : static_cast<std::int32_t>(largest - value);
    T sum = 0;
    for (int q = 0; q < 4; ++q) sum += p.soft[b * 4 + q] = std::exp(value[q] - *largest);
    for (int q = 0; q < 4; ++q) {
      p.soft[b * 4 + q] /= sum;
      p.one_hot[b * 4 + q] = q == selected ? T(1) : T(0);
    }
    p.selected[b] = selected;
  }
}

template <class T>
void gumbel_softmax_backward(const GumbelSoftmaxBackward<T>& p) {
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const T* soft = p.soft + b * 4;
    const T* grad = p.grad_one_hot + b * 4;
    T mean = 0;
    for (int q = 0; q < 4; ++q) mean += grad[q] * soft[q];
    for (int q = 0; q < 4; ++q) p.grad_logits[b * 4 + q] = soft[q] * (grad[q] - mean);
  }
}

QM_INSTANTIATE_CPU(gumbel_softmax_forward, GumbelSoftmaxForward)
QM_INSTANTIATE_CPU(gumbel_softmax_backward, GumbelSoftmaxBackward)

}  // namespace qm::cpu
