// What a forward pass carries beside the tensors.
#pragma once

#include <vector>

#include "autograd/tensor.h"
#include "kernels/base/step_record.h"

namespace qm {

/// Watches and steers the quadtree blocks, in the order they run. For tests, tools and reproducing published runs.
struct QuadProbe {
  std::vector<Tensor> noise;         ///< in: (B, 4) a block instead of drawn noise; empty = as usual
  std::vector<Tensor> forced;        ///< in: (B) int32 a block, the quadrants to take; empty = as usual
  std::vector<Tensor> score_logits;  ///< out: (B, 4) a block, before noise
  std::vector<Tensor> selected;      ///< out: (B) int32 a block
};

struct ForwardContext {
  /// Keys of Gumbel noise and drop path, in device memory. Null in evaluation: no noise, nothing dropped.
  const StepRecord* record = nullptr;
  QuadProbe* probe = nullptr;
  /// Blocks keep only what comes into them, and are computed again in backward. Changes no number; a probe turns it off.
  bool checkpoint = false;
};

}  // namespace qm
