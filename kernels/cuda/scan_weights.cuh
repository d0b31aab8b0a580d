// The weights of kernels/scan_weights.h with channels contiguous, and their gradients' way back.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/scan_weights.h"

namespace qm::cuda {

struct PackedScanWeights {
  const float* A;        ///< (K, N, D) = −exp(A_logs)
  const float* dt;       ///< (K, R, D)
  const float* dt_bias;  ///< (K, D)
  const float* skip;     ///< (K, D)
};

/// Sums of the weights' gradients in the same layout, one after another: (A | dt | dt_bias | skip).
struct PackedScanGradients {
  float *A, *dt, *dt_bias, *skip;

  QM_HOST_DEVICE static std::int64_t width(const ScanShape& s) {
    return s.directions * s.channels * (s.states + s.rank + 2);
  }

  __device__ __forceinline__ PackedScanGradients(const ScanShape& s, float* sums)
      : A(sums),
        dt(A + s.directions * s.states * s.channels),
        dt_bias(dt + s.directions * s.rank * s.channels),
        skip(dt_bias + s.directions * s.channels) {}
};

// Transposes A_logs and dt_weight. Grid (K · (N + R) · D / kBlock rounded up), a thread an element of (A | dt).
//   A_logs (K · D, N), dt_weight (K · D, R); A (K, N, D) = −exp(A_logs), dt (K, R, D)
static __global__ void pack_weights_kernel(ScanShape s, const float* A_logs, const float* dt_weight, float* A,
                                           float* dt) {
  const std::int64_t i = global_thread(), split = s.directions * s.states * s.channels;
  if (i >= split + s.directions * s.rank * s.channels) return;
  const bool is_A = i < split;
  const std::int64_t at = is_A ? i : i - split, inner = is_A ? s.states : s.rank;
  const std::int64_t k = at / (inner * s.channels), column = at / s.channels % inner, d = at % s.channels;
  const std::int64_t from = (k * s.channels + d) * inner + column;
  if (is_A) {
    A[at] = -expf(A_logs[from]);
  } else {
    dt[at] = dt_weight[from];
  }
}

// Adds the sums of PackedScanGradients to the gradients in the parameters' own layout; ∂A/∂A_logs = A. Null
// destinations are skipped. Grid (width / kBlock rounded up), a thread a sum.
//   sums (width); A (K, N, D)
//   grad_A_logs (K · D, N), grad_dt_weight (K · D, R), grad_dt_bias and grad_skip (K · D)
static __global__ void add_weight_gradients_kernel(ScanShape s, const float* sums, const float* A, float* grad_A_logs,
                                                   float* grad_dt_weight, float* grad_dt_bias, float* grad_skip) {
  const std::int64_t i = global_thread();
  if (i >= PackedScanGradients::width(s)) return;
  const std::int64_t rows = s.directions * s.channels, d = i % s.channels;
  const auto unpacked = [&](std::int64_t at, std::int64_t inner) {
    return (at / (inner * s.channels) * s.channels + d) * inner + at / s.channels % inner;
  };
  if (i < rows * s.states) {
    if (grad_A_logs) grad_A_logs[unpacked(i, s.states)] += sums[i] * A[i];
  } else if (i < rows * (s.states + s.rank)) {
    if (grad_dt_weight) grad_dt_weight[unpacked(i - rows * s.states, s.rank)] += sums[i];
  } else if (i < rows * (s.states + s.rank + 1)) {
    if (grad_dt_bias) grad_dt_bias[i - rows * (s.states + s.rank)] += sums[i];
  } else {
    if (grad_skip) grad_skip[i - rows * (s.states + s.rank + 1)] += sums[i];
  }
}

/// The packed weights, for the launches of one call.
class PackedWeightsScratch {
 public:
  template <class T>
  PackedWeightsScratch(const Stream& stream, const ScanShape& s, const ScanWeights<T>& weights)
      : A_(stream, s.directions * s.states * s.channels),
        dt_(stream, s.directions * s.rank * s.channels),
        packed_{A_.data(), dt_.data(), weights.dt_bias, weights.skip} {
    pack_weights_kernel<<<blocks_for(s.directions * (s.states + s.rank) * s.channels), kBlock, 0, native(stream)>>>(
        s, weights.A_logs, weights.dt_weight, A_.data(), dt_.data());
    check_launch("pack_weights");
  }

  const PackedScanWeights& packed() const { return packed_; }

 private:
  Scratch<float> A_, dt_;
  PackedScanWeights packed_;
};

/// Adds `sums` (PackedScanGradients::width) to the gradients.
template <class T>
void add_weight_gradients(const Stream& stream, const ScanShape& s, const PackedScanWeights& weights, const float* sums,
                          const ScanWeightGradients<T>& grad) {
  add_weight_gradients_kernel<<<blocks_for(PackedScanGradients::width(s)), kBlock, 0, native(stream)>>>(
      s, sums, weights.A, grad.A_logs, grad.dt_weight, grad.dt_bias, grad.skip);
  check_launch("add_weight_gradients");
}

}  // namespace qm::cuda
