// The QuadMamba network (MODEL.md, "Network"): stem, four stages of VSS blocks, head.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "layers/ss2d.h"

namespace qm {

struct QuadMambaConfig {
  std::int64_t dim = 0;                    ///< channels of the first stage; doubles at every stage
  std::array<std::int64_t, 4> depths{};    ///< blocks a stage
  std::int64_t classes = 0;
  std::int64_t state_size = 1;             ///< N
  FineOrder fine_order = FineOrder::kQuadtree;
  double drop_path = 0;                    ///< rate of the last block; earlier ones rise linearly to it
  FilterSampling stem_filters = FilterSampling::kIndependent;  ///< initial filters of the first convolution

  std::int64_t blocks() const { return depths[0] + depths[1] + depths[2] + depths[3]; }
};

/// x += DropPath(SS2D(LN(x))), then x += DropPath(MLP(LN(x))).
class VssBlock {
 public:
  /// `drop_path` is the block's own rate, the same for both its branches.
  VssBlock(const Scope& scope, std::int64_t channels, const BlockPlace& place, double drop_path);
  /// Takes the stream with a branch pending or not; leaves the MLP's branch pending.
  Residual operator()(const Residual& residual, const ForwardContext& context) const;
  /// Drop path of the branch that it leaves pending.
  DropPathSite pending_site(const ForwardContext& context) const { return site(context, 1); }

 private:
  DropPathSite site(const ForwardContext& context, std::uint32_t branch) const;

  BlockPlace place_;
  float drop_path_;
  LayerNorm norm_, norm2_;
  Ss2d op_;
  Mlp mlp_;
};

class QuadMamba {
 public:
  /// Registers all parameters in `store`, which must outlive the network and be allocated before it runs. Throws
  /// ConfigError on an impossible configuration.
  QuadMamba(ParameterStore& store, const QuadMambaConfig& config);

  /// images (B, H, W, 3), normalised, H and W at least 32 → logits (B, classes).
  Tensor operator()(const Tensor& images, const ForwardContext& context) const;

  const QuadMambaConfig& config() const { return config_; }

 private:
  struct Block {
    std::unique_ptr<VssBlock> block;
    std::vector<const Parameter*> parameters;
  };
  struct Stage {
    std::vector<Block> blocks;
    std::unique_ptr<Conv2d> downsample;         // none after the last stage
    std::unique_ptr<LayerNorm> downsample_norm;
  };

  Residual run(const Block& block, const Residual& residual, const ForwardContext& context) const;

  QuadMambaConfig config_;
  std::unique_ptr<Conv2d> stem1_, stem2_;
  std::unique_ptr<LayerNorm> stem1_norm_, stem2_norm_;
  std::array<Stage, 4> stages_;
  std::unique_ptr<LayerNorm> head_norm_;
  std::unique_ptr<Linear> head_;
};

/// Multiply-adds of one image by part, in the publication's convention: 9·L·K·D·N + L·K·D for each scan.
struct MultiplyAdds {
  double convolutions = 0, linear = 0, projections = 0, scans = 0;
  double total() const { return convolutions + linear + projections + scans; }
};
MultiplyAdds count_multiply_adds(const QuadMambaConfig& config, std::int64_t height, std::int64_t width);

/// Parameters by part of the network, in its order: patch_embed, layers.0 … layers.3, classifier.
std::vector<std::pair<std::string, std::int64_t>> count_parameters(const ParameterStore& store);

}  // namespace qm
