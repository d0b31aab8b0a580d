#include "kernels/classification_metrics.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class Params>
void check(const Params& p) {
  QM_CHECK(p.batch >= 0 && p.classes > 0, ShapeError, "classification_metrics: batch ", p.batch, ", classes ",
           p.classes);
}

}  // namespace

template <class T>
void classification_metrics(const Stream& stream, const ClassificationMetrics<T>& p) {
  check(p);
  QM_DISPATCH(classification_metrics, stream, p);
}

QM_INSTANTIATE_CONTRACT(classification_metrics, ClassificationMetrics)

}  // namespace qm
