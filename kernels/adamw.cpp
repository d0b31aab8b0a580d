#include "kernels/adamw.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class Params>
void check(const Params& p) {
  QM_CHECK(p.count >= 0 && p.segment_count >= 0, ShapeError, "adamw: ", p.count, " parameters in ", p.segment_count,
           " segments");
}

/// Gradients are read twice; parameters and both moments are read and written, as is the average.
template <class T>
OpCost cost_of(const AdamWStep<T>& p) {
  const double each = (8.0 + (p.ema ? 2 : 0)) * sizeof(T) + (p.rounded ? sizeof(bfloat16) : 0);
  return {.bytes = static_cast<double>(p.count) * each};
}

}  // namespace

template <class T>
void adamw_step(const Stream& stream, const AdamWStep<T>& p) {
  check(p);
  QM_DISPATCH(adamw_step, stream, p);
}

QM_INSTANTIATE_REAL_CONTRACT(adamw_step, AdamWStep)

}  // namespace qm
