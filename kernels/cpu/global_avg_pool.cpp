#include "kernels/global_avg_pool.h"

#include <algorithm>

#include "kernels/base/dispatch.h"

namespace qm::cpu {

template <class T>
void global_avg_pool_forward(const GlobalAvgPoolForward<T>& p) {
#pragma omp parallel for schedule(static)
  for (std::int64_t b = 0; b < p.batch; ++b) {
    T* y = p.y + b * p.channels;
    std::fill(y, y + p.channels, T(0));
    for (std::int64_t l = 0; l < p.length; ++l) {
      const T* x = p.x + (b * p.length + l) * p.channels;
#pragma omp simd
      for (std::int64_t c = 0; c < p.channels; ++c) y[c] += x[c];
    }
    for (std::int64_t c = 0; c < p.channels; ++c) y[c] /= static_cast<T>(p.length);
  }
}

template <class T>
void global_avg_pool_backward(const GlobalAvgPoolBackward<T>& p) {
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < p.batch * p.length; ++row) {
    const T* grad_y = p.grad_y + row / p.length * p.channels;
    T* grad_x = p.grad_x + row * p.channels;
#pragma omp simd
    for (std::int64_t c = 0; c < p.channels; ++c) grad_x[c] = grad_y[c] / static_cast<T>(p.length);
  }
}

QM_INSTANTIATE_CPU(global_avg_pool_forward, GlobalAvgPoolForward)
QM_INSTANTIATE_CPU(global_avg_pool_backward, GlobalAvgPoolBackward)

}  // namespace qm::cpu
