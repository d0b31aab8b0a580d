#include "layers/ss2d.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops/core_scan.h"
#include "autograd/ops/cross_scan.h"
#include "autograd/ops/depthwise_conv_silu.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/score_pool.h"

namespace qm {
namespace {

std::int64_t round_up_to_4(std::int64_t extent) { return (extent + 3) / 4 * 4; }

/// Inverse softplus of exp(U(ln 1e-3, ln 1e-1)), floor 1e-4.
double initial_dt_bias(const InitialRandom& random, std::int64_t index) {
  const double dt = std::max(std::exp(random.uniform(index, std::log(1e-3), std::log(1e-1))), 1e-4);
  return dt + std::log(-std::expm1(-dt));
}

/// Where the roll of a block moves the map: by H // 8, the sign pattern turning with every second block.
QuadScanGeometry roll_of(const BlockPlace& place, std::int64_t padded_height) {
  QuadScanGeometry geometry;
  geometry.fine_order = place.fine_order;
  if (place.block_in_stage % 2 == 0) return geometry;
  constexpr int kSignH[4] = {1, -1, 1, -1};
  constexpr int kSignW[4] = {1, -1, -1, 1};
  const std::int64_t pattern = place.block / 2 % 4;
  geometry.roll_h = kSignH[pattern] * (padded_height / 8);
  geometry.roll_w = kSignW[pattern] * (padded_height / 8);
  return geometry;
}

/// The probe's tensor for the quadtree block that is running, or an undefined one.
Tensor steered(const QuadProbe* probe, const std::vector<Tensor> QuadProbe::*list) {
  if (!probe || (probe->*list).empty()) return Tensor();
  return (probe->*list).at(probe->selected.size());
}

}  // namespace

// ---- projections and parameters of the scan --------------------------------------------------------------------------

ScanCore::ScanCore(const Scope& scope, std::int64_t directions, std::int64_t channels, std::int64_t rank,
                   std::int64_t states)
    : x_proj_weight_(scope.parameter("x_proj_weight", {directions, rank + 2 * states, channels},
                                     initial::uniform(1 / std::sqrt(static_cast<double>(channels))))),
      dt_projs_weight_(scope.parameter("dt_projs_weight", {directions, channels, rank},
                                       initial::uniform(1 / std::sqrt(static_cast<double>(rank))))),
      dt_projs_bias_(scope.parameter("dt_projs_bias", {directions, channels}, initial_dt_bias)),
      A_logs_(scope.parameter("A_logs", {directions * channels, states},
                              [states](const InitialRandom&, std::int64_t index) {
                                return std::log(static_cast<double>(index % states + 1));
                              })),
      Ds_(scope.parameter("Ds", {directions * channels}, initial::constant(1))) {}

Tensor ScanCore::project(const Tensor& x) const {
  const Shape& shape = x_proj_weight_->shape;
  return linear(x, x_proj_weight_->tensor.reshape({shape[0] * shape[1], shape[2]}), Tensor());
}

CoreScanWeights ScanCore::weights() const {
  return {dt_projs_weight_->tensor, dt_projs_bias_->tensor, A_logs_->tensor, Ds_->tensor};
}

// ---- score predictor -------------------------------------------------------------------------------------------------

ScorePredictor::ScorePredictor(const Scope& scope, std::int64_t channels)
    : norm_(scope.child("in_conv.0"), channels),
      in_(scope.child("in_conv.1"), channels, channels, true),
      hidden1_(scope.child("out_conv.0"), channels, channels / 2, true),
      hidden2_(scope.child("out_conv.2"), channels / 2, channels / 4, true),
      out_(scope.child("out_conv.4"), channels / 4, 2, true) {}

Tensor ScorePredictor::operator()(const Tensor& x) const {
  return score_pool(mlp(norm_(x), {in_.layer(), hidden1_.layer(), hidden2_.layer(), out_.layer()}));
}

// ---- SS2D ------------------------------------------------------------------------------------------------------------

Ss2d::Ss2d(const Scope& scope, std::int64_t channels, const BlockPlace& place)
    : place_(place),
      in_proj_(scope.child("in_proj"), channels, 2 * channels, false),
      conv2d_weight_(scope.parameter("conv2d.weight", {2 * channels, 1, 3, 3}, initial::uniform(1.0 / 3))),
      core_(scope, place.quad ? 2 : 4, 2 * channels, (channels + 15) / 16, place.state_size),
      out_norm_(scope.child("out_norm"), 2 * channels),
      out_proj_(scope.child("out_proj"), 2 * channels, channels, false) {
  if (place.quad) score_predictor_ = std::make_unique<ScorePredictor>(scope.child("score_predictor"), 2 * channels);
}

Tensor Ss2d::operator()(const Tensor& x, const ForwardContext& context) const {
  const std::int64_t height = x.dim(1), width = x.dim(2);
  const Tensor inner = in_proj_(x);
  Tensor core;
  if (place_.quad) {
    const Tensor map =
        depthwise_conv_silu(inner, conv2d_weight_->tensor, round_up_to_4(height), round_up_to_4(width));
    core = quad_core(map, height, width, context);
  } else {
    const Tensor map = depthwise_conv_silu(inner, conv2d_weight_->tensor, height, width);
    core = cross_scan(map, core_.project(map), core_.weights());
  }
  return out_proj_(out_norm_(core));
}

Tensor Ss2d::quad_core(const Tensor& map, std::int64_t height, std::int64_t width,
                       const ForwardContext& context) const {
  const Tensor logits = (*score_predictor_)(map);
  const GumbelNoise noise{.noise = steered(context.probe, &QuadProbe::noise),
                          .record = context.record,
                          .site = static_cast<std::uint32_t>(place_.block),
                          .forced = steered(context.probe, &QuadProbe::forced)};
  const QuadrantChoice choice = gumbel_softmax(logits, noise);
  if (context.probe) {
    context.probe->score_logits.push_back(logits);
    context.probe->selected.push_back(choice.selected);
  }
  QuadScanGeometry geometry = roll_of(place_, map.dim(1));
  geometry.out_height = height;
  geometry.out_width = width;
  return quad_scan(map, core_.project(map), choice, core_.weights(), geometry);
}

}  // namespace qm
