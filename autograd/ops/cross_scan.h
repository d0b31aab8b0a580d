// Cross scan: four directions over a map, summed (kernels/cross_scan.h).
#pragma once

#include "autograd/ops/core_scan.h"

namespace qm {

/// x (B, H, W, D), projection (B, H, W, K·(R + 2N)), K = 4 → (B, H, W, D). Saves its inputs.
Tensor cross_scan(const Tensor& x, const Tensor& projection, const CoreScanWeights& weights);

}  // namespace qm
