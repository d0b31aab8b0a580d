#include "layers/modules.h"

#include <cmath>

#include "autograd/ops/conv2d.h"
#include "autograd/ops/layer_norm.h"
#include "autograd/ops/linear.h"

namespace qm {

Linear::Linear(const Scope& scope, std::int64_t in, std::int64_t out, bool bias)
    : weight_(scope.parameter("weight", {out, in}, initial::truncated_normal(0.02))) {
  if (bias) bias_ = scope.parameter("bias", {out}, initial::constant(0));
}

Tensor Linear::operator()(const Tensor& x) const {
  return linear(x, weight_->tensor, bias_ ? bias_->tensor : Tensor());
}

MlpLayer Linear::layer() const { return {weight_->tensor, bias_ ? bias_->tensor : Tensor()}; }

Conv2d::Conv2d(const Scope& scope, std::int64_t in, std::int64_t out, FilterSampling sampling) {
  const std::int64_t filter = 9 * in;  // weights of one
  const double bound = 1 / std::sqrt(static_cast<double>(filter));
  const bool stratified = sampling == FilterSampling::kStratified;
  weight_ = scope.parameter("weight", {out, in, 3, 3},
                            stratified ? initial::stratified_uniform(bound, filter) : initial::uniform(bound));
  bias_ = scope.parameter("bias", {out}, initial::uniform(bound));
}

Tensor Conv2d::operator()(const Tensor& x) const { return conv2d(x, weight_->tensor, bias_->tensor, 2); }

Tensor close(const Residual& residual) {
  if (!residual.branch.defined()) return residual.stream;
  return residual_norm(residual.stream, residual.branch, residual.drop_path, Tensor(), Tensor()).stream;
}

LayerNorm::LayerNorm(const Scope& scope, std::int64_t channels)
    : weight_(scope.parameter("weight", {channels}, initial::constant(1))),
      bias_(scope.parameter("bias", {channels}, initial::constant(0))) {}

Tensor LayerNorm::operator()(const Tensor& x) const { return layer_norm(x, weight_->tensor, bias_->tensor); }

ResidualNorm LayerNorm::operator()(const Residual& residual) const {
  if (!residual.branch.defined()) return {residual.stream, (*this)(residual.stream)};
  return residual_norm(residual.stream, residual.branch, residual.drop_path, weight_->tensor, bias_->tensor);
}

Mlp::Mlp(const Scope& scope, std::int64_t channels)
    : fc1_(scope.child("fc1"), channels, 4 * channels, true), fc2_(scope.child("fc2"), 4 * channels, channels, true) {}

Tensor Mlp::operator()(const Tensor& x) const { return mlp(x, {fc1_.layer(), fc2_.layer()}); }

}  // namespace qm
