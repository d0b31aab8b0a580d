// What quad_scan and cross_scan share on the CPU: the scan's weights laid out for vector loops, the product that makes Δ
// from a token's projection, and the sums of the weights' gradients.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/scan_core.h"
#include "kernels/scan_weights.h"

namespace qm::cpu {

/// The weights of all directions with channels contiguous.
template <class T>
struct PackedScanWeights {
  ScanShape shape;
  std::vector<T> A;   ///< (K, N, D) = −exp(A_logs)
  std::vector<T> dt;  ///< (K, R, D)
  const T* dt_bias;   ///< (K, D)
  const T* skip;      ///< (K, D)

  PackedScanWeights(const ScanShape& scan, const ScanWeights<T>& weights)
      : shape(scan),
        A(scan.directions * scan.states * scan.channels),
        dt(scan.directions * scan.rank * scan.channels),
        dt_bias(weights.dt_bias),
        skip(weights.skip) {
    for (std::int64_t k = 0; k < scan.directions; ++k) {
      for (std::int64_t d = 0; d < scan.channels; ++d) {
        const std::int64_t row = k * scan.channels + d;
        for (std::int64_t n = 0; n < scan.states; ++n) {
          A[(k * scan.states + n) * scan.channels + d] = -std::exp(weights.A_logs[row * scan.states + n]);
        }
        for (std::int64_t r = 0; r < scan.rank; ++r) {
          dt[(k * scan.rank + r) * scan.channels + d] = weights.dt_weight[row * scan.rank + r];
        }
      }
    }
  }

  ScanDirection<T> direction(std::int64_t k, std::int64_t length) const {
    return {length, shape.channels, shape.states, A.data() + k * shape.states * shape.channels,
            skip + k * shape.channels};
  }

  /// token.dt, B and C from a projection (R + 2N) of direction k.
  void expand(std::int64_t k, const T* projection, ScanToken<T>& token) const {
    std::copy_n(dt_bias + k * shape.channels, shape.channels, token.dt.data());
    for (std::int64_t r = 0; r < shape.rank; ++r) {
      const T* weight = dt.data() + (k * shape.rank + r) * shape.channels;
      const T delta = projection[r];
#pragma omp simd
      for (std::int64_t d = 0; d < shape.channels; ++d) token.dt[d] += delta * weight[d];
    }
    std::copy_n(projection + shape.rank, shape.states, token.B.data());
    std::copy_n(projection + shape.rank + shape.states, shape.states, token.C.data());
  }
};

/// Sums of the weights' gradients over some images, in PackedScanWeights' layout: (A | dt | dt_bias | skip).
template <class T>
struct PackedScanGradients {
  ScanShape shape;
  T* A;
  T* dt;
  T* dt_bias;
  T* skip;

  static std::int64_t width(const ScanShape& s) { return s.directions * s.channels * (s.states + s.rank + 2); }

  PackedScanGradients(const ScanShape& s, T* sums)
      : shape(s),
        A(sums),
        dt(A + s.directions * s.channels * s.states),
        dt_bias(dt + s.directions * s.channels * s.rank),
        skip(dt_bias + s.directions * s.channels) {}

  /// Backward of PackedScanWeights::expand: adds to the sums of dt and dt_bias and writes the projection's gradient.
  void contract(std::int64_t k, const PackedScanWeights<T>& weights, const T* projection,
                const ScanTokenGradient<T>& grad, T* grad_projection) {
    const T* grad_dt = grad.dt.data();
    T* bias = dt_bias + k * shape.channels;
#pragma omp simd
    for (std::int64_t d = 0; d < shape.channels; ++d) bias[d] += grad_dt[d];
    for (std::int64_t r = 0; r < shape.rank; ++r) {
      const T* weight = weights.dt.data() + (k * shape.rank + r) * shape.channels;
      T* grad_weight = dt + (k * shape.rank + r) * shape.channels;
      const T delta = projection[r];
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t d = 0; d < shape.channels; ++d) {
        sum += grad_dt[d] * weight[d];
        grad_weight[d] += delta * grad_dt[d];
      }
      grad_projection[r] = sum;
    }
    std::copy_n(grad.B.data(), shape.states, grad_projection + shape.rank);
    std::copy_n(grad.C.data(), shape.states, grad_projection + shape.rank + shape.states);
  }

  /// Adds the sums to the gradients in the parameters' own layout; ∂A/∂A_logs = A. Null destinations are skipped.
  void add_to(const PackedScanWeights<T>& weights, const ScanWeightGradients<T>& out) const {
    for (std::int64_t k = 0; k < shape.directions; ++k) {
      for (std::int64_t d = 0; d < shape.channels; ++d) {
        const std::int64_t row = k * shape.channels + d;
        for (std::int64_t n = 0; n < shape.states; ++n) {
          const std::int64_t at = (k * shape.states + n) * shape.channels + d;
          if (out.A_logs) out.A_logs[row * shape.states + n] += A[at] * weights.A[at];
        }
        for (std::int64_t r = 0; r < shape.rank; ++r) {
          if (out.dt_weight) out.dt_weight[row * shape.rank + r] += dt[(k * shape.rank + r) * shape.channels + d];
        }
        if (out.dt_bias) out.dt_bias[row] += dt_bias[row];
        if (out.skip) out.skip[row] += skip[row];
      }
    }
  }
};

}  // namespace qm::cpu
