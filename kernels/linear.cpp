#include "kernels/linear.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class T>
OpCost cost_of(const LinearForward<T>& p) {
  const double rows = static_cast<double>(p.rows), in = static_cast<double>(p.in), out = static_cast<double>(p.out);
  return {.bytes = (rows * (in + out) + in * out) * sizeof(T), .flops = 2 * rows * in * out};
}

/// Each of the two products that are wanted reads two matrices and writes one.
template <class T>
OpCost cost_of(const LinearBackward<T>& p) {
  const double rows = static_cast<double>(p.rows), in = static_cast<double>(p.in), out = static_cast<double>(p.out);
  const double products = (p.grad_x ? 1 : 0) + (p.grad_weight ? 1 : 0);
  return {.bytes = products * (rows * (in + out) * sizeof(T) + in * out * sizeof(Real<T>)),
          .flops = products * 2 * rows * in * out};
}

}  // namespace

template <class T>
void linear_forward(const Stream& stream, const LinearForward<T>& p) {
  QM_CHECK(p.rows >= 0 && p.in > 0 && p.out > 0, ShapeError, "linear: rows ", p.rows, ", in ", p.in, ", out ", p.out);
  QM_DISPATCH(linear_forward, stream, p);
}

template <class T>
void linear_backward(const Stream& stream, const LinearBackward<T>& p) {
  QM_CHECK(p.rows >= 0 && p.in > 0 && p.out > 0, ShapeError, "linear: rows ", p.rows, ", in ", p.in, ", out ", p.out);
  QM_DISPATCH(linear_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(linear_forward, LinearForward)
QM_INSTANTIATE_CONTRACT(linear_backward, LinearBackward)

}  // namespace qm
