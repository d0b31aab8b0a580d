// Quadtree scan: partition, two-direction selective scan and merge (kernels/quad_scan.h).
#pragma once

#include "autograd/ops/core_scan.h"
#include "autograd/ops/gumbel_softmax.h"
#include "kernels/quad_order.h"

namespace qm {

struct QuadScanGeometry {
  std::int64_t roll_h = 0, roll_w = 0;
  FineOrder fine_order = FineOrder::kQuadtree;
  std::int64_t out_height = 0, out_width = 0;  ///< the map is cropped to this
};

/// x (B, H, W, D) padded to multiples of 4, projection (B, H, W, K·(R + 2N)), K = 2 → (B, out_height, out_width, D).
/// Differentiable in x, projection, choice.one_hot and the weights. Saves its inputs, its output and what the scan leaves (kernels/quad_scan.h).
Tensor quad_scan(const Tensor& x, const Tensor& projection, const QuadrantChoice& choice,
                 const CoreScanWeights& weights, const QuadScanGeometry& geometry);

}  // namespace qm
