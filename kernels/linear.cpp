#include "kernels/linear.h"

#include "kernels/base/dispatch.h"

namespace qm {

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
