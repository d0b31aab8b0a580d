// AdamW with global-norm clipping and an exponential moving average of the weights, over flat buffers in one pass
// (kernels/adamw.h).
#pragma once

#include <vector>

#include "autograd/tensor.h"
#include "kernels/adamw.h"

namespace qm {

struct AdamWConfig {
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.05;
  double clip_norm = 0;  ///< 0 = no clipping
  bool ema = false;      ///< whether an average of the weights is kept, starting at the initial ones
};

class AdamW {
 public:
  /// `parameters` and `gradients`: flat, of equal count and dtype; `segments` cover them in order.
  AdamW(const AdamWConfig& config, Tensor parameters, Tensor gradients, const std::vector<AdamWSegment>& segments);

  /// Has every step leave the new parameters in `rounded` (bfloat16, flat, the same count) too.
  void keep_rounded(const Tensor& rounded) { rounded_ = rounded; }

  /// One step with the record's learning rate, bias corrections and EMA decay (device memory). `loss` (1) must be finite
  /// as the gradients must; else nothing changes, in this step and those that follow, and not_finite() says since when.
  void step(const StepRecord* record, const Tensor& loss);

  const Tensor& exp_avg() const { return exp_avg_; }
  const Tensor& exp_avg_sq() const { return exp_avg_sq_; }
  /// Undefined without EMA.
  const Tensor& ema() const { return ema_; }
  /// (1) float64: ‖gradients‖₂ before clipping, of the last step.
  const Tensor& grad_norm() const { return grad_norm_; }
  /// (1) int32: 0, or the first step, counted from 1, whose loss or gradients were not finite. Setting it back to 0 lets
  /// the next step count again.
  const Tensor& not_finite() const { return not_finite_; }

  /// Fills in the step's bias corrections.
  void correct_bias(StepRecord& record) const;

 private:
  AdamWConfig config_;
  Tensor parameters_, gradients_, segments_, exp_avg_, exp_avg_sq_, ema_, rounded_, grad_norm_, not_finite_;
  std::int64_t segment_count_;
};

}  // namespace qm
