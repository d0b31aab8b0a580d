#include "kernels/global_avg_pool.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class Params>
void check(const Params& p) {
  QM_CHECK(p.batch >= 0 && p.length > 0 && p.channels > 0, ShapeError, "global_avg_pool: batch ", p.batch, ", length ",
           p.length, ", channels ", p.channels);
}

}  // namespace

template <class T>
void global_avg_pool_forward(const Stream& stream, const GlobalAvgPoolForward<T>& p) {
  check(p);
  QM_DISPATCH(global_avg_pool_forward, stream, p);
}

template <class T>
void global_avg_pool_backward(const Stream& stream, const GlobalAvgPoolBackward<T>& p) {
  check(p);
  QM_DISPATCH(global_avg_pool_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(global_avg_pool_forward, GlobalAvgPoolForward)
QM_INSTANTIATE_CONTRACT(global_avg_pool_backward, GlobalAvgPoolBackward)

}  // namespace qm
