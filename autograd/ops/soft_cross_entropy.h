// Cross-entropy with soft targets (kernels/soft_cross_entropy.h).
#pragma once

#include "autograd/tensor.h"

namespace qm {

/// logits (B, classes), targets (B, classes), without gradient → loss (1) = scale · Σ_b cross-entropy. Saves logits,
/// targets and the rows' log-sum-exp.
Tensor soft_cross_entropy(const Tensor& logits, const Tensor& targets, double scale);

}  // namespace qm
