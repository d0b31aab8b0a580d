#include "kernels/gumbel_softmax.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class Params>
void check(const Params& p) {
  QM_CHECK(p.batch >= 0, ShapeError, "gumbel_softmax: batch ", p.batch);
}

}  // namespace

template <class T>
void gumbel_softmax_forward(const Stream& stream, const GumbelSoftmaxForward<T>& p) {
  check(p);
  QM_DISPATCH(gumbel_softmax_forward, stream, p);
}

template <class T>
void gumbel_softmax_backward(const Stream& stream, const GumbelSoftmaxBackward<T>& p) {
  check(p);
  QM_DISPATCH(gumbel_softmax_backward, stream, p);
}

QM_INSTANTIATE_REAL_CONTRACT(gumbel_softmax_forward, GumbelSoftmaxForward)
QM_INSTANTIATE_REAL_CONTRACT(gumbel_softmax_backward, GumbelSoftmaxBackward)

}  // namespace qm
