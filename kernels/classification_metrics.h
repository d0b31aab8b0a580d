// Loss, top-1 and top-5 of a batch, added to running sums on the device. A row with label −1 is padding and not counted.
//
//   logits (batch, classes), labels (batch)  →  sums (4) += (Σ cross-entropy, top-1 hits, top-5 hits, rows counted)
// A label's rank is the number of larger logits plus that of equal ones with a smaller index. NaNs come before all numbers,
// and a label whose own logit is NaN is no hit.
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

template <class T>
struct ClassificationMetrics {
  std::int64_t batch, classes;
  const T* logits;
  const std::int32_t* labels;
  double* sums;
};

template <class T>
void classification_metrics(const Stream& stream, const ClassificationMetrics<T>& p);

namespace cpu {
template <class T>
void classification_metrics(const ClassificationMetrics<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void classification_metrics(const Stream& stream, const ClassificationMetrics<T>& p);
}  // namespace cuda

}  // namespace qm
