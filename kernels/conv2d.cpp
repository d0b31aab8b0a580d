#include "kernels/conv2d.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

void check(const Conv2dShape& s) {
  QM_CHECK(s.batch >= 0 && s.height > 0 && s.width > 0 && s.in > 0 && s.out > 0 && s.stride > 0, ShapeError,
           "conv2d: batch ", s.batch, ", map ", s.height, "x", s.width, ", channels ", s.in, " to ", s.out, ", stride ",
           s.stride);
}

}  // namespace

template <class T>
void conv2d_forward(const Stream& stream, const Conv2dForward<T>& p) {
  check(p.shape);
  QM_DISPATCH(conv2d_forward, stream, p);
}

template <class T>
void conv2d_backward(const Stream& stream, const Conv2dBackward<T>& p) {
  check(p.shape);
  QM_DISPATCH(conv2d_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(conv2d_forward, Conv2dForward)
QM_INSTANTIATE_CONTRACT(conv2d_backward, Conv2dBackward)

}  // namespace qm
