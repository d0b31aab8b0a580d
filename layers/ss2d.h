// SS2D, the VSS block's token mixer (MODEL.md, "Network" and "Core"):
//
//   linear C → D (no bias) → depthwise 3×3 → SiLU → core → LayerNorm(D) → linear D → C (no bias),   D = 2 C
//
// The core is a quadtree scan (stages 0 and 1) or a cross scan (stages 2 and 3).
#pragma once

#include <memory>

#include "autograd/ops/quad_scan.h"
#include "layers/forward_context.h"
#include "layers/modules.h"

namespace qm {

/// Where a block stands in the network and what its core is.
struct BlockPlace {
  std::int64_t block = 0;           ///< counted over the whole network; keys the noise, chooses the roll's direction
  std::int64_t block_in_stage = 0;  ///< odd ones roll
  bool quad = false;                ///< quadtree scan, else cross scan
  std::int64_t state_size = 1;      ///< N
  FineOrder fine_order = FineOrder::kQuadtree;
};

/// Projections and parameters of a core's scan: x_proj_weight (K, R + 2N, D), dt_projs_weight (K, D, R),
/// dt_projs_bias (K, D), A_logs (K·D, N), Ds (K·D).
class ScanCore {
 public:
  ScanCore(const Scope& scope, std::int64_t directions, std::int64_t channels, std::int64_t rank, std::int64_t states);
  /// (B, H, W, D) → (B, H, W, K·(R + 2N)): all directions' projections in one product on un-permuted tokens.
  Tensor project(const Tensor& x) const;
  CoreScanWeights weights() const;

 private:
  Parameter *x_proj_weight_, *dt_projs_weight_, *dt_projs_bias_, *A_logs_, *Ds_;
};

/// Scores a map's quadrants: LayerNorm → D → D → D/2 → D/4 → 2 with GELU between → log-softmax → mean a quadrant.
class ScorePredictor {
 public:
  ScorePredictor(const Scope& scope, std::int64_t channels);
  /// (B, H, W, D) → (B, 4)
  Tensor operator()(const Tensor& x) const;

 private:
  LayerNorm norm_;
  Linear in_, hidden1_, hidden2_, out_;
};

class Ss2d {
 public:
  Ss2d(const Scope& scope, std::int64_t channels, const BlockPlace& place);
  /// (B, H, W, C) → (B, H, W, C)
  Tensor operator()(const Tensor& x, const ForwardContext& context) const;

 private:
  Tensor quad_core(const Tensor& map, std::int64_t height, std::int64_t width, const ForwardContext& context) const;

  BlockPlace place_;
  Linear in_proj_;
  Parameter* conv2d_weight_;
  ScanCore core_;
  LayerNorm out_norm_;
  Linear out_proj_;
  std::unique_ptr<ScorePredictor> score_predictor_;  // quadtree blocks only
};

}  // namespace qm
