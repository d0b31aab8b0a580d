#include "kernels/residual_norm.h"

#include "kernels/base/dispatch.h"
#include "kernels/cpu/layer_norm_row.h"
#include "kernels/cpu/parallel.h"
#include "kernels/noise.h"

namespace qm::cpu {
namespace {

template <class T>
T scale_of(const DropPathSite& drop_path, std::int64_t sample) {
  return static_cast<T>(drop_path_scale(drop_path.record, drop_path.site, drop_path.rate,
                                        static_cast<std::uint32_t>(sample)));
}

}  // namespace

template <class T>
void residual_norm_forward(const ResidualNormForward<T>& p) {
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < p.batch * p.rows_per_sample; ++row) {
    const std::int64_t at = row * p.channels;
    const T scale = scale_of<T>(p.drop_path, row / p.rows_per_sample);
    T* stream_out = p.stream_out + at;
#pragma omp simd
    for (std::int64_t c = 0; c < p.channels; ++c) stream_out[c] = p.stream[at + c] + scale * p.branch[at + c];
    if (p.weight) normalize_row(p.channels, stream_out, p.weight, p.bias, p.y + at, p.mean[row], p.rstd[row]);
  }
}

template <class T>
void residual_norm_backward(const ResidualNormBackward<T>& p) {
  std::vector<T> sums(static_cast<std::size_t>(2 * p.channels), T(0));
  const auto backward_rows = [&](std::int64_t first, std::int64_t last, T* partial) {
    std::vector<T> total(static_cast<std::size_t>(p.channels), T(0));
    for (std::int64_t row = first; row < last; ++row) {
      const std::int64_t at = row * p.channels;
      if (p.grad_y) {
        normalize_row_backward(p.channels, p.stream_out + at, p.weight, p.mean[row], p.rstd[row], p.grad_y + at,
                               total.data(), false, partial, partial + p.channels);
      }
      if (p.grad_stream_out) {
#pragma omp simd
        for (std::int64_t c = 0; c < p.channels; ++c) {
          total[c] = p.grad_y ? total[c] + p.grad_stream_out[at + c] : p.grad_stream_out[at + c];
        }
      }
      const T scale = scale_of<T>(p.drop_path, row / p.rows_per_sample);
      if (p.grad_stream) std::copy(total.begin(), total.end(), p.grad_stream + at);
      if (p.grad_branch) {
#pragma omp simd
        for (std::int64_t c = 0; c < p.channels; ++c) p.grad_branch[at + c] = scale * total[c];
      }
    }
  };
  accumulate_over_rows(p.batch * p.rows_per_sample, 2 * p.channels, sums.data(), backward_rows);
  add_norm_gradients(p.channels, sums.data(), p.grad_weight, p.grad_bias);
}

QM_INSTANTIATE_CPU(residual_norm_forward, ResidualNormForward)
QM_INSTANTIATE_CPU(residual_norm_backward, ResidualNormBackward)

}  // namespace qm::cpu
