#include "kernels/adamw.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/reduce.cuh"

// norm = ‖g‖₂;  where norm and loss are finite and always were:
//   g ← g · min(1, clip / (norm + 1e-6)),   m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²
//   p ← p · (1 − lr · wd) − lr/bias₁ · m / (√v / √bias₂ + ε),   ema ← d · ema + (1 − d) · p
namespace qm::cuda {
namespace {

/// Partial sums of the norm: as many as one block adds in four rounds.
constexpr int kNormBlocks = 4 * kBlock;

/// What is the same for all parameters of a step.
template <class T>
struct StepFactors {
  T clip, step_size, root_bias2, shrink, ema_keep, ema_take;
};

// squares[block] = Σ g² over every kNormBlocks-th run of kBlock elements, in double, so that a million small gradients
// are not lost beside a large sum. Grid kNormBlocks: gradients (count), squares (kNormBlocks).
template <class T>
__global__ void adamw_squares_kernel(std::int64_t count, const T* gradients, double* squares) {
  double sum = 0;
  for (std::int64_t i = global_thread(); i < count; i += std::int64_t{kNormBlocks} * kBlock) {
    sum += static_cast<double>(gradients[i]) * static_cast<double>(gradients[i]);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

// The norm, the verdict and the step's factors. One block: squares (kNormBlocks), factors one.
template <class T>
__global__ void adamw_prepare_kernel(AdamWStep<T> p, const double* squares, StepFactors<T>* factors) {
  double sum = 0;
  for (int i = threadIdx.x; i < kNormBlocks; i += kBlock) sum += squares[i];
  const double norm = sqrt(block_sum(sum));
  if (threadIdx.x != 0) return;
  *p.norm = norm;
  if (*p.not_finite == 0 && (!isfinite(norm) || (p.loss && !isfinite(*p.loss)))) {
    *p.not_finite = static_cast<std::int32_t>(p.record->step) + 1;
  }
  const StepRecord& record = *p.record;
  *factors = {.clip = static_cast<T>(p.clip_norm > 0 ? min(1.0, p.clip_norm / (norm + 1e-6)) : 1.0),
              .step_size = static_cast<T>(record.learning_rate / record.bias_correction1),
              .root_bias2 = static_cast<T>(sqrt(record.bias_correction2)),
              .shrink = static_cast<T>(1 - record.learning_rate * p.weight_decay),
              .ema_keep = static_cast<T>(record.ema_decay),
              .ema_take = static_cast<T>(1 - record.ema_decay)};
}

/// The segment that element i lies in, or null in the padding between two: segments lie in the buffers' order.
__device__ __forceinline__ const AdamWSegment* segment_of(const AdamWSegment* segments, std::int64_t count,
                                                          std::int64_t i) {
  std::int64_t first = 0, last = count;  // the segment is in [first, last), if any
  while (last - first > 1) {
    const std::int64_t middle = (first + last) / 2;
    (segments[middle].offset <= i ? first : last) = middle;
  }
  const bool inside = count > 0 && segments[first].offset <= i && i < segments[first].offset + segments[first].count;
  return inside ? segments + first : nullptr;
}

// A thread an element: gradients, parameters, exp_avg, exp_avg_sq, ema, rounded (count), the last two may be null;
// segments (segment_count); factors one.
template <class T>
__global__ void adamw_update_kernel(AdamWStep<T> p, T beta1, T one_minus_beta1, T beta2, T one_minus_beta2, T epsilon,
                                    const StepFactors<T>* factors) {
  const std::int64_t i = global_thread();
  if (i >= p.count || *p.not_finite) return;
  const AdamWSegment* segment = segment_of(p.segments, p.segment_count, i);
  if (!segment) return;
  const StepFactors<T> f = *factors;
  const T gradient = p.gradients[i] * f.clip;
  const T m = beta1 * p.exp_avg[i] + one_minus_beta1 * gradient;
  const T v = beta2 * p.exp_avg_sq[i] + one_minus_beta2 * gradient * gradient;
  const T kept = segment->decays ? p.parameters[i] * f.shrink : p.parameters[i];
  const T parameter = kept - f.step_size * m / (sqrt(v) / f.root_bias2 + epsilon);
  p.exp_avg[i] = m;
  p.exp_avg_sq[i] = v;
  p.parameters[i] = parameter;
  if (p.rounded) p.rounded[i] = from_real<bfloat16>(parameter);
  if (p.ema) p.ema[i] = f.ema_keep * p.ema[i] + f.ema_take * parameter;
}

}  // namespace

template <class T>
void adamw_step(const Stream& stream, const AdamWStep<T>& p) {
  const Scratch<double> squares(stream, kNormBlocks);
  const Scratch<StepFactors<T>> factors(stream, 1);
  adamw_squares_kernel<<<kNormBlocks, kBlock, 0, native(stream)>>>(p.count, p.gradients, squares.data());
  check_launch("adamw_squares");
  adamw_prepare_kernel<<<1, kBlock, 0, native(stream)>>>(p, squares.data(), factors.data());
  check_launch("adamw_prepare");
  if (p.count == 0) return;
  adamw_update_kernel<<<blocks_for(p.count), kBlock, 0, native(stream)>>>(
      p, static_cast<T>(p.beta1), static_cast<T>(1 - p.beta1), static_cast<T>(p.beta2), static_cast<T>(1 - p.beta2),
      static_cast<T>(p.epsilon), factors.data());
  check_launch("adamw_update");
}

QM_INSTANTIATE_REAL_CUDA(adamw_step, AdamWStep)

}  // namespace qm::cuda
