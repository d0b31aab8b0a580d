#include "layers/saved_memory.h"

#include <algorithm>

#include "kernels/base/caching_allocator.h"

namespace qm {
namespace {

constexpr std::int64_t kSweepTile = 16;  ///< tokens between the states that bfloat16 scans of one state keep

/// Tensors that are alive at once.
class Kept {
 public:
  Kept(std::int64_t batch, DType activations) : batch_(batch), activation_(activations), real_(real_dtype_of(activations)) {}

  void activations(std::int64_t count_an_image) { add(count_an_image, size_of(activation_)); }
  void reals(std::int64_t count_an_image) { add(count_an_image, size_of(real_)); }
  double bytes() const { return bytes_; }

 private:
  void add(std::int64_t count, std::size_t size) {
    bytes_ += static_cast<double>(CachingAllocator::size_class(static_cast<std::size_t>(batch_ * count) * size));
  }

  std::int64_t batch_;
  DType activation_, real_;
  double bytes_ = 0;
};

struct BlockShape {
  std::int64_t height, width, channels;
  bool quad;
};

/// In the order of layers/quadmamba.cpp and layers/ss2d.cpp.
void keep_block(const QuadMambaConfig& config, const BlockShape& s, DType activations, Kept& kept) {
  const auto padded = [&](std::int64_t extent) { return s.quad ? (extent + 3) / 4 * 4 : extent; };
  const std::int64_t tokens = s.height * s.width, scanned = padded(s.height) * padded(s.width), inner = 2 * s.channels;
  const std::int64_t rank = (s.channels + 15) / 16, directions = s.quad ? 2 : 4;
  const auto keep_norm = [&](std::int64_t rows) { kept.reals(rows), kept.reals(rows); };
  const bool sweeps = activations == DType::kBFloat16 && config.state_size == 1;

  kept.activations(tokens * s.channels);  // the stream, and what is normalised of it
  kept.activations(tokens * s.channels);
  keep_norm(tokens);
  kept.activations(tokens * inner);   // before the depthwise convolution
  kept.activations(scanned * inner);  // the map
  kept.activations(scanned * directions * (rank + 2 * config.state_size));
  if (sweeps) kept.reals(directions * ((scanned + kSweepTile - 1) / kSweepTile) * inner);
  if (s.quad) {
    kept.activations(scanned * inner);  // the predictor: norm, then each layer before and after GELU
    keep_norm(scanned);
    for (const std::int64_t width : {inner, inner / 2, inner / 4}) {
      kept.activations(scanned * width);
      kept.activations(scanned * width);
    }
    kept.activations(scanned * 2);
    const bool by_token = sweeps && config.fine_order == FineOrder::kQuadtree && scanned == tokens;
    if (!by_token) kept.activations(scanned * inner);  // y in sequence order
  }
  kept.activations(tokens * inner);  // the scan's output, and what is normalised of it
  kept.activations(tokens * inner);
  keep_norm(tokens);
  kept.activations(tokens * s.channels);  // the stream again
  kept.activations(tokens * s.channels);
  keep_norm(tokens);
  kept.activations(tokens * 4 * s.channels);  // the MLP before and after GELU
  kept.activations(tokens * 4 * s.channels);
}

}  // namespace

double saved_bytes(const QuadMambaConfig& config, std::int64_t height, std::int64_t width, std::int64_t batch,
                   DType activations, bool checkpoint) {
  Kept kept(batch, activations);
  double largest_block = 0;
  const auto halve = [&] {
    height = (height + 1) / 2;
    width = (width + 1) / 2;
  };
  kept.activations(height * width * 3);
  halve();
  for (int i = 0; i < 3; ++i) kept.activations(height * width * config.dim / 2);  // convolution, norm, GELU
  halve();
  std::int64_t channels = config.dim;
  kept.activations(height * width * channels);
  for (std::size_t stage = 0; stage < config.depths.size(); ++stage, channels *= 2) {
    kept.activations(height * width * channels);  // the stream that comes in
    for (std::int64_t block = 0; block < config.depths[stage]; ++block) {
      Kept own(batch, activations);
      keep_block(config, {height, width, channels, stage < 2}, activations, checkpoint ? own : kept);
      largest_block = std::max(largest_block, own.bytes());
      if (!checkpoint) continue;
      kept.activations(height * width * channels);  // the stream and the branch that go out
      kept.activations(height * width * channels);
    }
    if (stage + 1 == config.depths.size()) break;
    kept.activations(height * width * channels);  // closed, before the convolution
    halve();
    kept.activations(height * width * 2 * channels);
  }
  return kept.bytes() + largest_block;
}

double bytes_per_parameter(DType activations, bool averaged) {
  const auto real = static_cast<double>(size_of(real_dtype_of(activations)));
  return real * (averaged ? 5 : 4) + (activations == DType::kBFloat16 ? 2 : 0);
}

}  // namespace qm
