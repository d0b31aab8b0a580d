#include "kernels/linear_gelu.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class T>
OpCost cost_of(const LinearGeluForward<T>& p) {
  const double rows = static_cast<double>(p.rows), in = static_cast<double>(p.in), out = static_cast<double>(p.out);
  return {.bytes = (rows * (in + out * (p.pre ? 2 : 1)) + in * out) * sizeof(T), .flops = 2 * rows * in * out};
}
template <class T>
OpCost cost_of(const GeluLinearBackward<T>& p) {
  const double rows = static_cast<double>(p.rows), in = static_cast<double>(p.in), out = static_cast<double>(p.out);
  return {.bytes = (rows * (out + 2 * in) + in * out) * sizeof(T), .flops = 2 * rows * in * out};
}

}  // namespace

template <class T>
void linear_gelu_forward(const Stream& stream, const LinearGeluForward<T>& p) {
  QM_CHECK(p.rows >= 0 && p.in > 0 && p.out > 0, ShapeError, "linear_gelu: rows ", p.rows, ", in ", p.in, ", out ",
           p.out);
  QM_DISPATCH(linear_gelu_forward, stream, p);
}

template <class T>
void gelu_linear_backward(const Stream& stream, const GeluLinearBackward<T>& p) {
  QM_CHECK(p.rows >= 0 && p.in > 0 && p.out > 0, ShapeError, "gelu_linear: rows ", p.rows, ", in ", p.in, ", out ",
           p.out);
  QM_DISPATCH(gelu_linear_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(linear_gelu_forward, LinearGeluForward)
QM_INSTANTIATE_CONTRACT(gelu_linear_backward, GeluLinearBackward)

}  // namespace qm
