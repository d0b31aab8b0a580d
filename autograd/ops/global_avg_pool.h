// Global average pool (kernels/global_avg_pool.h).
#pragma once

#include "autograd/tensor.h"

namespace qm {

/// x (B, …, C) → (B, C).
Tensor global_avg_pool(const Tensor& x);

}  // namespace qm
