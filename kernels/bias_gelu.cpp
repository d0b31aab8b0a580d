#include "kernels/bias_gelu.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class T>
OpCost cost_of(const BiasGeluForward<T>& p) {
  return {.bytes = 2.0 * static_cast<double>(p.rows * p.channels) * sizeof(T)};
}
template <class T>
OpCost cost_of(const BiasGeluBackward<T>& p) {
  return {.bytes = 3.0 * static_cast<double>(p.rows * p.channels) * sizeof(T)};
}

}  // namespace

template <class T>
void bias_gelu_forward(const Stream& stream, const BiasGeluForward<T>& p) {
  QM_CHECK(p.rows >= 0 && p.channels > 0, ShapeError, "bias_gelu: rows ", p.rows, ", channels ", p.channels);
  QM_DISPATCH(bias_gelu_forward, stream, p);
}

template <class T>
void bias_gelu_backward(const Stream& stream, const BiasGeluBackward<T>& p) {
  QM_CHECK(p.rows >= 0 && p.channels > 0, ShapeError, "bias_gelu: rows ", p.rows, ", channels ", p.channels);
  QM_DISPATCH(bias_gelu_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(bias_gelu_forward, BiasGeluForward)
QM_INSTANTIATE_CONTRACT(bias_gelu_backward, BiasGeluBackward)

}  // namespace qm
