#include "kernels/score_pool.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class Params>
void check(const Params& p) {
  QM_CHECK(p.batch >= 0 && p.height > 0 && p.width > 0 && p.height % 2 == 0 && p.width % 2 == 0, ShapeError,
           "score_pool: expected even extents, got batch ", p.batch, ", map ", p.height, "x", p.width);
}

}  // namespace

template <class T>
void score_pool_forward(const Stream& stream, const ScorePoolForward<T>& p) {
  check(p);
  QM_DISPATCH(score_pool_forward, stream, p);
}

template <class T>
void score_pool_backward(const Stream& stream, const ScorePoolBackward<T>& p) {
  check(p);
  QM_DISPATCH(score_pool_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(score_pool_forward, ScorePoolForward)
QM_INSTANTIATE_CONTRACT(score_pool_backward, ScorePoolBackward)

}  // namespace qm
