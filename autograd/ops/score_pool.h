// The score predictor's log-softmax and quadrant pooling (kernels/score_pool.h).
#pragma once

#include "autograd/tensor.h"

namespace qm {

/// x (B, H, W, 2), H and W even → (B, 4) mean scores of the quadrants. Saves x.
Tensor score_pool(const Tensor& x);

}  // namespace qm
