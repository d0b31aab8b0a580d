#include "kernels/residual_norm.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class Params>
void check(const Params& p) {
  QM_CHECK(p.batch >= 0 && p.rows_per_sample > 0 && p.channels > 0, ShapeError, "residual_norm: batch ", p.batch,
           ", rows a sample ", p.rows_per_sample, ", channels ", p.channels);
  QM_CHECK(p.drop_path.rate >= 0 && p.drop_path.rate < 1, ShapeError, "residual_norm: drop path rate ",
           p.drop_path.rate, " is outside [0, 1)");
}

template <class T>
OpCost cost_of(const ResidualNormForward<T>& p) {
  const double maps = p.weight ? 4 : 3;
  return {.bytes = maps * static_cast<double>(p.batch * p.rows_per_sample * p.channels) * sizeof(T)};
}
template <class T>
OpCost cost_of(const ResidualNormBackward<T>& p) {
  const double maps = 1.0 * (p.grad_y != nullptr) * 2 + (p.grad_stream_out != nullptr) + (p.grad_stream != nullptr) +
                      (p.grad_branch != nullptr);
  return {.bytes = maps * static_cast<double>(p.batch * p.rows_per_sample * p.channels) * sizeof(T)};
}

}  // namespace

template <class T>
void residual_norm_forward(const Stream& stream, const ResidualNormForward<T>& p) {
  check(p);
  QM_DISPATCH(residual_norm_forward, stream, p);
}

template <class T>
void residual_norm_backward(const Stream& stream, const ResidualNormBackward<T>& p) {
  check(p);
  QM_CHECK(p.grad_stream_out || p.grad_y, ShapeError, "residual_norm: backward without any gradient");
  QM_DISPATCH(residual_norm_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(residual_norm_forward, ResidualNormForward)
QM_INSTANTIATE_CONTRACT(residual_norm_backward, ResidualNormBackward)

}  // namespace qm
