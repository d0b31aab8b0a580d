#include "kernels/soft_cross_entropy.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class Params>
void check(const Params& p) {
  QM_CHECK(p.batch >= 0 && p.classes > 0, ShapeError, "soft_cross_entropy: batch ", p.batch, ", classes ", p.classes);
}

}  // namespace

template <class T>
void soft_cross_entropy_forward(const Stream& stream, const SoftCrossEntropyForward<T>& p) {
  check(p);
  QM_DISPATCH(soft_cross_entropy_forward, stream, p);
}

template <class T>
void soft_cross_entropy_backward(const Stream& stream, const SoftCrossEntropyBackward<T>& p) {
  check(p);
  QM_DISPATCH(soft_cross_entropy_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(soft_cross_entropy_forward, SoftCrossEntropyForward)
QM_INSTANTIATE_CONTRACT(soft_cross_entropy_backward, SoftCrossEntropyBackward)

}  // namespace qm
