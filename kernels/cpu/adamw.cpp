#include "kernels/adamw.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/dispatch.h"
#include "kernels/cpu/parallel.h"

namespace qm::cpu {
namespace {

/// ‖g‖₂, squares added in double so that a million small gradients are not lost beside a large sum.
template <class T>
double norm_of(const T* values, std::int64_t count) {
  double squares = 0;
  accumulate_in_chunks(count, std::int64_t{1} << 16, 1, &squares,
                       [&](std::int64_t first, std::int64_t last, double* partial) {
                         double sum = 0;
#pragma omp simd reduction(+ : sum)
                         for (std::int64_t i = first; i < last; ++i) {
                           sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
                         }
                         *partial = sum;
                       });
  return std::sqrt(squares);
}

}  // namespace

template <class T>
void adamw_step(const AdamWStep<T>& p) {
  *p.norm = norm_of(p.gradients, p.count);
  if (*p.not_finite == 0 && (!std::isfinite(*p.norm) || (p.loss && !std::isfinite(*p.loss)))) {
    *p.not_finite = static_cast<std::int32_t>(p.record->step) + 1;
  }
  if (*p.not_finite) return;

  const StepRecord& record = *p.record;
  const T clip = static_cast<T>(p.clip_norm > 0 ? std::min(1.0, p.clip_norm / (*p.norm + 1e-6)) : 1.0);
  const T beta1 = static_cast<T>(p.beta1), one_minus_beta1 = static_cast<T>(1 - p.beta1);
  const T beta2 = static_cast<T>(p.beta2), one_minus_beta2 = static_cast<T>(1 - p.beta2);
  const T step_size = static_cast<T>(record.learning_rate / record.bias_correction1);
  const T root_bias2 = static_cast<T>(std::sqrt(record.bias_correction2));
  const T epsilon = static_cast<T>(p.epsilon);
  const T ema_keep = static_cast<T>(record.ema_decay), ema_take = static_cast<T>(1 - record.ema_decay);

  for (std::int64_t s = 0; s < p.segment_count; ++s) {
    const AdamWSegment& segment = p.segments[s];
    const T shrink = static_cast<T>(segment.decays ? 1 - record.learning_rate * p.weight_decay : 1.0);
#pragma omp parallel for simd schedule(static) if (segment.count > 16384)
    for (std::int64_t i = segment.offset; i < segment.offset + segment.count; ++i) {
      const T gradient = p.gradients[i] * clip;
      const T m = beta1 * p.exp_avg[i] + one_minus_beta1 * gradient;
      const T v = beta2 * p.exp_avg_sq[i] + one_minus_beta2 * gradient * gradient;
      const T parameter = p.parameters[i] * shrink - step_size * m / (std::sqrt(v) / root_bias2 + epsilon);
      p.exp_avg[i] = m;
      p.exp_avg_sq[i] = v;
      p.parameters[i] = parameter;
      if (p.rounded) p.rounded[i] = bfloat16(static_cast<float>(parameter));
      if (p.ema) p.ema[i] = ema_keep * p.ema[i] + ema_take * parameter;
    }
  }
}

QM_INSTANTIATE_CPU(adamw_step, AdamWStep)

}  // namespace qm::cpu
