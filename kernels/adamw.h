// One optimizer step over all parameters: global-norm clip + AdamW + EMA, on flat buffers in one pass.
//
//   norm = ‖g‖₂ over everything,   g ← g · min(1, clip / (norm + 1e-6))   (clip 0: as it is)
//   p ← p · (1 − lr · wd)          where the segment decays (Loshchilov & Hutter, 2019)
//   m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²
//   p ← p − lr · (m / bias₁) / (√(v / bias₂) + ε)
//   ema ← d · ema + (1 − d) · p
//
// lr, bias corrections and d come from the step record. Where the norm or `loss` is not finite, or *not_finite is set
// already, nothing changes but *not_finite, which becomes the number of the first such step, counted from 1.
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"
#include "kernels/base/step_record.h"

namespace qm {

/// A run of the flat buffers that decays or does not; lists of segments cover the buffers in order.
struct AdamWSegment {
  std::int64_t offset, count;
  bool decays;
};

/// T is the type of the master weights: float, or double in fp64 runs.
template <class T>
struct AdamWStep {
  std::int64_t count;
  const AdamWSegment* segments;
  std::int64_t segment_count;
  double weight_decay, beta1, beta2, epsilon, clip_norm;
  const StepRecord* record;
  const T* loss;          ///< one number that must be finite too; may be null
  const T* gradients;
  T* parameters;
  T* exp_avg;
  T* exp_avg_sq;
  T* ema;                 ///< null = no EMA
  bfloat16* rounded;      ///< the new parameters, rounded, for bf16 activations; null = not wanted
  double* norm;           ///< out: the norm before clipping
  std::int32_t* not_finite;
};

template <class T>
void adamw_step(const Stream& stream, const AdamWStep<T>& p);

namespace cpu {
template <class T>
void adamw_step(const AdamWStep<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void adamw_step(const Stream& stream, const AdamWStep<T>& p);
}  // namespace cuda

}  // namespace qm
