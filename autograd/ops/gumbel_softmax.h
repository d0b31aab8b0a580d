// Straight-through Gumbel-softmax over the four quadrants (kernels/gumbel_softmax.h).
#pragma once

#include "autograd/tensor.h"
#include "kernels/base/step_record.h"

namespace qm {

/// Where the noise comes from: `noise` (B, 4) if defined, else drawn for (record, site) if a record is given, else none.
/// `forced` (B, int32), if defined, replaces the arg-max.
struct GumbelNoise {
  Tensor noise;
  const StepRecord* record = nullptr;  ///< device memory
  std::uint32_t site = 0;
  Tensor forced;
};

struct QuadrantChoice {
  Tensor one_hot;   ///< (B, 4); carries the gradient of the soft choice
  Tensor selected;  ///< (B), int32
};

/// logits (B, 4). Saves the soft choice.
QuadrantChoice gumbel_softmax(const Tensor& logits, const GumbelNoise& noise);

}  // namespace qm
