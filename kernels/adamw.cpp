#include "kernels/adamw.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class Params>
void check(const Params& p) {
  QM_CHECK(p.count >= 0 && p.segment_count >= 0, ShapeError, "adamw: ", p.count, " parameters in ", p.segment_count,
           " segments");
}

}  // namespace

template <class T>
void adamw_step(const Stream& stream, const AdamWStep<T>& p) {
  check(p);
  QM_DISPATCH(adamw_step, stream, p);
}

QM_INSTANTIATE_REAL_CONTRACT(adamw_step, AdamWStep)

}  // namespace qm
