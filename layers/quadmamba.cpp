#include "layers/quadmamba.h"

#include "autograd/checkpoint.h"
#include "autograd/ops/bias_gelu.h"
#include "autograd/ops/global_avg_pool.h"

namespace qm {
namespace {

void check(const QuadMambaConfig& config) {
  QM_CHECK(config.dim >= 4 && config.dim % 2 == 0, ConfigError, "model: expected an even dim of at least 4, got ",
           config.dim);
  for (const auto depth : config.depths) {
    QM_CHECK(depth >= 1, ConfigError, "model: expected at least one block a stage, got ", depth);
  }
  QM_CHECK(config.classes >= 1, ConfigError, "model: expected at least one class, got ", config.classes);
  QM_CHECK(config.state_size >= 1, ConfigError, "model: expected a state size of at least 1, got ",
           config.state_size);
  QM_CHECK(config.drop_path >= 0 && config.drop_path < 1, ConfigError, "model: expected a drop path in [0, 1), got ",
           config.drop_path);
}

/// Stages 0 and 1 scan in quadtree order, 2 and 3 crosswise.
bool is_quad_stage(std::size_t stage) { return stage < 2; }

}  // namespace

// ---- block -----------------------------------------------------------------------------------------------------------

VssBlock::VssBlock(const Scope& scope, std::int64_t channels, const BlockPlace& place, double drop_path)
    : place_(place),
      drop_path_(static_cast<float>(drop_path)),
      norm_(scope.child("norm"), channels),
      norm2_(scope.child("norm2"), channels),
      op_(scope.child("op"), channels, place),
      mlp_(scope.child("mlp"), channels) {}

DropPathSite VssBlock::site(const ForwardContext& context, std::uint32_t branch) const {
  return {context.record, static_cast<std::uint32_t>(2 * place_.block) + branch, drop_path_};
}

Residual VssBlock::operator()(const Residual& residual, const ForwardContext& context) const {
  const ResidualNorm mixer = norm_(residual);
  const ResidualNorm mlp = norm2_(Residual{mixer.stream, op_(mixer.y, context), site(context, 0)});
  return {mlp.stream, mlp_(mlp.y), pending_site(context)};
}

// ---- network ---------------------------------------------------------------------------------------------------------

QuadMamba::QuadMamba(ParameterStore& store, const QuadMambaConfig& config) : config_(config) {
  check(config);
  const Scope root(store);
  const Scope stem = root.child("patch_embed");
  stem1_ = std::make_unique<Conv2d>(stem.child("0"), 3, config.dim / 2, config.stem_filters);
  stem1_norm_ = std::make_unique<LayerNorm>(stem.child("2"), config.dim / 2);
  stem2_ = std::make_unique<Conv2d>(stem.child("5"), config.dim / 2, config.dim);
  stem2_norm_ = std::make_unique<LayerNorm>(stem.child("7"), config.dim);

  std::int64_t block = 0, channels = config.dim;
  for (std::size_t s = 0; s < stages_.size(); ++s, channels *= 2) {
    Stage& stage = stages_[s];
    const Scope scope = root.child("layers").child(std::to_string(s));
    for (std::int64_t j = 0; j < config.depths[s]; ++j, ++block) {
      const BlockPlace place{.block = block, .block_in_stage = j, .quad = is_quad_stage(s),
                             .state_size = config.state_size, .fine_order = config.fine_order};
      const double rate = config.blocks() > 1 ? config.drop_path * static_cast<double>(block) /
                                                    static_cast<double>(config.blocks() - 1)
                                              : 0;
      const std::size_t first = store.list().size();
      Block& added = stage.blocks.emplace_back();
      added.block = std::make_unique<VssBlock>(scope.child("blocks").child(std::to_string(j)), channels, place, rate);
      for (std::size_t i = first; i < store.list().size(); ++i) added.parameters.push_back(&store.list()[i]);
    }
    if (s + 1 < stages_.size()) {
      stage.downsample = std::make_unique<Conv2d>(scope.child("downsample.1"), channels, 2 * channels);
      stage.downsample_norm = std::make_unique<LayerNorm>(scope.child("downsample.3"), 2 * channels);
    }
  }
  channels = 8 * config.dim;
  head_norm_ = std::make_unique<LayerNorm>(root.child("classifier.norm"), channels);
  head_ = std::make_unique<Linear>(root.child("classifier.head"), channels, config.classes, true);
}

Tensor QuadMamba::operator()(const Tensor& images, const ForwardContext& context) const {
  QM_CHECK(images.rank() == 4 && images.dim(1) >= 32 && images.dim(2) >= 32 && images.dim(3) == 3, ShapeError,
           "quadmamba: expected images (B, H, W, 3) of at least 32x32, got ", to_string(images.shape()));
  const Tensor hidden = bias_gelu((*stem1_norm_)((*stem1_)(images)), Tensor());
  Residual residual{(*stem2_norm_)((*stem2_)(hidden)), {}, {}};
  for (const Stage& stage : stages_) {
    for (const Block& block : stage.blocks) residual = run(block, residual, context);
    if (stage.downsample) residual = Residual{(*stage.downsample_norm)((*stage.downsample)(close(residual))), {}, {}};
  }
  return (*head_)(global_avg_pool((*head_norm_)(residual).y));
}

Residual QuadMamba::run(const Block& block, const Residual& residual, const ForwardContext& context) const {
  if (!context.checkpoint || context.probe) return (*block.block)(residual, context);
  std::vector<Tensor> parameters;
  for (const Parameter* parameter : block.parameters) parameters.push_back(parameter->tensor);
  const VssBlock* const network = block.block.get();
  const auto body = [network, drop_path = residual.drop_path, context](const std::vector<Tensor>& inputs) {
    const Residual result = (*network)({inputs[0], inputs[1], drop_path}, context);
    return std::vector<Tensor>{result.stream, result.branch};
  };
  const std::vector<Tensor> outputs = checkpoint({residual.stream, residual.branch}, parameters, body);
  return {outputs[0], outputs[1], network->pending_site(context)};
}

// ---- size ------------------------------------------------------------------------------------------------------------

MultiplyAdds count_multiply_adds(const QuadMambaConfig& config, std::int64_t height, std::int64_t width) {
  MultiplyAdds sum;
  const auto halve = [&] {
    height = (height + 1) / 2;
    width = (width + 1) / 2;
  };
  double channels = static_cast<double>(config.dim);
  halve();
  sum.convolutions += static_cast<double>(height * width) * 9 * 3 * channels / 2;
  halve();
  sum.convolutions += static_cast<double>(height * width) * 9 * channels / 2 * channels;

  for (std::size_t s = 0; s < config.depths.size(); ++s, channels *= 2) {
    const bool quad = is_quad_stage(s);
    const double tokens = static_cast<double>(height * width);
    const double core_tokens =
        quad ? static_cast<double>((height + 3) / 4 * 4 * ((width + 3) / 4 * 4)) : tokens;
    const double blocks = static_cast<double>(config.depths[s]);
    const double inner = 2 * channels, states = static_cast<double>(config.state_size);
    const double rank = static_cast<double>((static_cast<std::int64_t>(channels) + 15) / 16);
    const double directions = quad ? 2 : 4;
    sum.convolutions += blocks * tokens * 9 * inner;
    sum.linear += blocks * tokens * (2 * channels * inner + 8 * channels * channels);
    if (quad) {
      sum.linear += blocks * core_tokens *
                    (inner * inner + inner * inner / 2 + inner / 2 * inner / 4 + inner / 4 * 2);
    }
    sum.projections += blocks * core_tokens * directions * inner * (rank + 2 * states + rank);
    sum.scans += blocks * core_tokens * directions * inner * (9 * states + 1);
    if (s + 1 < config.depths.size()) {
      halve();
      sum.convolutions += static_cast<double>(height * width) * 9 * channels * 2 * channels;
    }
  }
  sum.linear += channels / 2 * static_cast<double>(config.classes);
  return sum;
}

std::vector<std::pair<std::string, std::int64_t>> count_parameters(const ParameterStore& store) {
  std::vector<std::pair<std::string, std::int64_t>> parts;
  for (const auto& parameter : store.list()) {
    // "layers.2.blocks…" belongs to "layers.2", everything else to its first word.
    std::size_t end = parameter.name.find('.');
    if (parameter.name.starts_with("layers.")) end = parameter.name.find('.', end + 1);
    const std::string part = parameter.name.substr(0, end);
    if (parts.empty() || parts.back().first != part) parts.emplace_back(part, 0);
    parts.back().second += parameter.count();
  }
  return parts;
}

}  // namespace qm
