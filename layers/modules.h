// The small modules: linear, convolution, LayerNorm, the residual stream, MLP. Published names and initial values.
#pragma once

#include "autograd/ops/mlp.h"
#include "autograd/ops/residual_norm.h"
#include "layers/parameters.h"

namespace qm {

class Linear {
 public:
  /// weight (out, in): truncated normal, σ 0.02; bias (out): 0.
  Linear(const Scope& scope, std::int64_t in, std::int64_t out, bool bias);
  /// (…, in) → (…, out)
  Tensor operator()(const Tensor& x) const;
  /// As a layer of mlp(); it must have a bias.
  MlpLayer layer() const;

 private:
  Parameter* weight_;
  Parameter* bias_ = nullptr;
};

/// How the initial weights of a convolution's filter are drawn, each of them uniform.
enum class FilterSampling {
  kIndependent,  ///< as published
  kStratified,   ///< spread evenly over the interval, so that a filter's sum is nearly zero
};

/// 3×3, stride 2, padding 1, with bias.
class Conv2d {
 public:
  /// weight (out, in, 3, 3) and bias: uniform ±1/√(9·in).
  Conv2d(const Scope& scope, std::int64_t in, std::int64_t out,
         FilterSampling sampling = FilterSampling::kIndependent);
  /// (B, H, W, in) → (B, ⌈H/2⌉, ⌈W/2⌉, out)
  Tensor operator()(const Tensor& x) const;

 private:
  Parameter* weight_;
  Parameter* bias_;
};

/// The residual stream and the branch that is still to be added to it. The sum is taken together with the LayerNorm that
/// reads it, in one pass over memory, so a block hands its last branch on to whatever follows.
struct Residual {
  Tensor stream;
  Tensor branch;  ///< undefined: nothing is pending
  DropPathSite drop_path;
};

/// stream + s · branch.
Tensor close(const Residual& residual);

class LayerNorm {
 public:
  LayerNorm(const Scope& scope, std::int64_t channels);
  Tensor operator()(const Tensor& x) const;
  /// Adds the pending branch and normalises the sum.
  ResidualNorm operator()(const Residual& residual) const;

 private:
  Parameter* weight_;
  Parameter* bias_;
};

/// Linear C → 4C → GELU → linear 4C → C, both with bias.
class Mlp {
 public:
  Mlp(const Scope& scope, std::int64_t channels);
  Tensor operator()(const Tensor& x) const;

 private:
  Linear fc1_, fc2_;
};

}  // namespace qm
