#include "autograd/optim/adamw.h"

#include <cmath>

#include "autograd/ops/check.h"
#include "kernels/memory.h"

namespace qm {

AdamW::AdamW(const AdamWConfig& config, Tensor parameters, Tensor gradients, const std::vector<AdamWSegment>& segments)
    : config_(config),
      parameters_(std::move(parameters)),
      gradients_(std::move(gradients)),
      exp_avg_(Tensor::zeros(parameters_.shape(), parameters_.dtype(), parameters_.device())),
      exp_avg_sq_(Tensor::zeros(parameters_.shape(), parameters_.dtype(), parameters_.device())),
      ema_(config.ema ? parameters_.clone() : Tensor()),
      grad_norm_(Tensor::zeros({1}, DType::kFloat64, parameters_.device())),
      not_finite_(Tensor::zeros({1}, DType::kInt32, parameters_.device())),
      segment_count_(static_cast<std::int64_t>(segments.size())) {
  expect_shape("adamw", "gradients", gradients_, parameters_.shape());
  // Kernels read the segments from device memory.
  const auto bytes = static_cast<std::int64_t>(segments.size() * sizeof(AdamWSegment));
  segments_ = Tensor::empty({bytes}, DType::kUInt8, parameters_.device());
  copy_bytes(segments_.stream(), segments_.raw(), segments_.device(), segments.data(), Device{}, segments_.bytes());
}

void AdamW::step(const StepRecord* record, const Tensor& loss) {
  visit_real(parameters_.dtype(), "adamw", [&]<class T>() {
    adamw_step<T>(parameters_.stream(),
                  {.count = parameters_.count(), .segments = static_cast<const AdamWSegment*>(segments_.raw()),
                   .segment_count = segment_count_, .weight_decay = config_.weight_decay, .beta1 = config_.beta1,
                   .beta2 = config_.beta2, .epsilon = config_.epsilon, .clip_norm = config_.clip_norm,
                   .record = record, .loss = data_or_null<T>(loss), .gradients = gradients_.data<T>(),
                   .parameters = parameters_.data<T>(), .exp_avg = exp_avg_.data<T>(),
                   .exp_avg_sq = exp_avg_sq_.data<T>(), .ema = data_or_null<T>(ema_),
                   .rounded = data_or_null<bfloat16>(rounded_),
                   .norm = grad_norm_.data<double>(), .not_finite = not_finite_.data<std::int32_t>()});
  });
}

void AdamW::correct_bias(StepRecord& record) const {
  record.bias_correction1 = 1 - std::pow(config_.beta1, record.step + 1.0);
  record.bias_correction2 = 1 - std::pow(config_.beta2, record.step + 1.0);
}

}  // namespace qm
