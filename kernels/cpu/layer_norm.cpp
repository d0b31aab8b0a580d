#include "kernels/layer_norm.h"

#include "kernels/base/dispatch.h"
#include "kernels/cpu/layer_norm_row.h"
#include "kernels/cpu/parallel.h"

namespace qm::cpu {

template <class T>
void layer_norm_forward(const LayerNormForward<T>& p) {
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < p.rows; ++row) {
    normalize_row(p.channels, p.x + row * p.channels, p.weight, p.bias, p.y + row * p.channels, p.mean[row],
                  p.rstd[row]);
  }
}

template <class T>
void layer_norm_backward(const LayerNormBackward<T>& p) {
  std::vector<T> sums(static_cast<std::size_t>(2 * p.channels), T(0));
  accumulate_over_rows(p.rows, 2 * p.channels, sums.data(), [&](std::int64_t first, std::int64_t last, T* partial) {
    for (std::int64_t row = first; row < last; ++row) {
      const std::int64_t at = row * p.channels;
      normalize_row_backward(p.channels, p.x + at, p.weight, p.mean[row], p.rstd[row], p.grad_y + at, p.grad_x + at,
                             p.grad_x_adds, partial, partial + p.channels);
    }
  });
  add_norm_gradients(p.channels, sums.data(), p.grad_weight, p.grad_bias);
}

QM_INSTANTIATE_CPU(layer_norm_forward, LayerNormForward)
QM_INSTANTIATE_CPU(layer_norm_backward, LayerNormBackward)

}  // namespace qm::cpu
