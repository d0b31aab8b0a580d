#include "kernels/conv2d.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

void check(const Conv2dShape& s) {
  QM_CHECK(s.batch >= 0 && s.height > 0 && s.width > 0 && s.in > 0 && s.out > 0 && s.stride > 0, ShapeError,
           "conv2d: batch ", s.batch, ", map ", s.height, "x", s.width, ", channels ", s.in, " to ", s.out, ", stride ",
           s.stride);
}

double taps(const Conv2dShape& s) {
  return static_cast<double>(s.batch * s.out_height() * s.out_width()) * 9 * static_cast<double>(s.in * s.out);
}
double map_numbers(const Conv2dShape& s) {
  return static_cast<double>(s.batch) *
         static_cast<double>(s.height * s.width * s.in + s.out_height() * s.out_width() * s.out);
}

template <class T>
OpCost cost_of(const Conv2dForward<T>& p) {
  return {.bytes = map_numbers(p.shape) * sizeof(T), .flops = 2 * taps(p.shape)};
}
template <class T>
OpCost cost_of(const Conv2dBackward<T>& p) {
  const double products = (p.grad_x ? 1 : 0) + (p.grad_weight ? 1 : 0);
  return {.bytes = products * map_numbers(p.shape) * sizeof(T), .flops = products * 2 * taps(p.shape)};
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
