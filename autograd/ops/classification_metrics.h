// Running sums of loss and hits (kernels/classification_metrics.h). No gradient.
#pragma once

#include "autograd/tensor.h"

namespace qm {

/// sums (4) float64 += (Σ cross-entropy, top-1 hits, top-5 hits, rows) over the rows whose label is not −1.
/// logits (B, classes), labels (B) int32.
void add_classification_metrics(const Tensor& logits, const Tensor& labels, const Tensor& sums);

}  // namespace qm
