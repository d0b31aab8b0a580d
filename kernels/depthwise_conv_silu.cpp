#include "kernels/depthwise_conv_silu.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

void check(const DepthwiseShape& s) {
  QM_CHECK(s.batch >= 0 && s.height > 0 && s.width > 0 && s.channels > 0 && s.out_height >= s.height &&
               s.out_width >= s.width,
           ShapeError, "depthwise_conv_silu: batch ", s.batch, ", map ", s.height, "x", s.width, " into ", s.out_height,
           "x", s.out_width, ", channels ", s.channels);
}

template <class T>
OpCost cost_of(const DepthwiseConvSiluForward<T>& p) {
  const DepthwiseShape& s = p.shape;
  return {.bytes = static_cast<double>(s.batch * s.channels * (s.height * s.width + s.out_height * s.out_width)) *
                   sizeof(T)};
}
template <class T>
OpCost cost_of(const DepthwiseConvSiluBackward<T>& p) {
  const DepthwiseShape& s = p.shape;
  return {.bytes = static_cast<double>(s.batch * s.channels * (2 * s.height * s.width + s.out_height * s.out_width)) *
                   sizeof(T)};
}

}  // namespace

template <class T>
void depthwise_conv_silu_forward(const Stream& stream, const DepthwiseConvSiluForward<T>& p) {
  check(p.shape);
  QM_DISPATCH(depthwise_conv_silu_forward, stream, p);
}

template <class T>
void depthwise_conv_silu_backward(const Stream& stream, const DepthwiseConvSiluBackward<T>& p) {
  check(p.shape);
  QM_DISPATCH(depthwise_conv_silu_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(depthwise_conv_silu_forward, DepthwiseConvSiluForward)
QM_INSTANTIATE_CONTRACT(depthwise_conv_silu_backward, DepthwiseConvSiluBackward)

}  // namespace qm
