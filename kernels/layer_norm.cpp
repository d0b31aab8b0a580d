#include "kernels/layer_norm.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class T>
OpCost cost_of(const LayerNormForward<T>& p) {
  return {.bytes = 2.0 * static_cast<double>(p.rows * p.channels) * sizeof(T)};
}
template <class T>
OpCost cost_of(const LayerNormBackward<T>& p) {
  return {.bytes = (p.grad_x_adds ? 4.0 : 3.0) * static_cast<double>(p.rows * p.channels) * sizeof(T)};
}

}  // namespace

template <class T>
void layer_norm_forward(const Stream& stream, const LayerNormForward<T>& p) {
  QM_CHECK(p.rows >= 0 && p.channels > 0, ShapeError, "layer_norm: rows ", p.rows, ", channels ", p.channels);
  QM_DISPATCH(layer_norm_forward, stream, p);
}

template <class T>
void layer_norm_backward(const Stream& stream, const LayerNormBackward<T>& p) {
  QM_CHECK(p.rows >= 0 && p.channels > 0, ShapeError, "layer_norm: rows ", p.rows, ", channels ", p.channels);
  QM_DISPATCH(layer_norm_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(layer_norm_forward, LayerNormForward)
QM_INSTANTIATE_CONTRACT(layer_norm_backward, LayerNormBackward)

}  // namespace qm
