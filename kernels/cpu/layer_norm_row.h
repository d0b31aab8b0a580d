// One row of LayerNorm, shared by layer_norm and residual_norm.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/layer_norm.h"

namespace qm::cpu {

template <class T>
inline void normalize_row(std::int64_t channels, const T* x, const T* weight, const T* bias, T* y, T& mean, T& rstd) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t c = 0; c < channels; ++c) sum += x[c];
  mean = sum / static_cast<T>(channels);
  T squares = 0;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t c = 0; c < channels; ++c) squares += (x[c] - mean) * (x[c] - mean);
  rstd = T(1) / std::sqrt(squares / static_cast<T>(channels) + static_cast<T>(kLayerNormEpsilon));
#pragma omp simd
  for (std::int64_t c = 0; c < channels; ++c) y[c] = (x[c] - mean) * rstd * weight[c] + bias[c];
}

/// grad_x is assigned, or added to where `grad_x_adds`; grad_weight and grad_bias are added to.
template <class T>
inline void normalize_row_backward(std::int64_t channels, const T* x, const T* weight, T mean, T rstd, const T* grad_y,
                                   T* grad_x, bool grad_x_adds, T* grad_weight, T* grad_bias) {
  T sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
  for (std::int64_t c = 0; c < channels; ++c) {
    const T normalized = (x[c] - mean) * rstd;
    const T g = grad_y[c] * weight[c];
    sum_g += g;
    sum_gn += g * normalized;
    grad_weight[c] += grad_y[c] * normalized;
    grad_bias[c] += grad_y[c];
  }
  const T mean_g = sum_g / static_cast<T>(channels);
  const T mean_gn = sum_gn / static_cast<T>(channels);
#pragma omp simd
  for (std::int64_t c = 0; c < channels; ++c) {
    const T normalized = (x[c] - mean) * rstd;
    const T before = grad_x_adds ? grad_x[c] : T(0);
    grad_x[c] = before + rstd * (grad_y[c] * weight[c] - mean_g - normalized * mean_gn);
  }
}

/// Adds the concatenated sums (grad_weight, grad_bias) of accumulate_over_rows to their two destinations.
template <class T>
inline void add_norm_gradients(std::int64_t channels, const T* sums, T* grad_weight, T* grad_bias) {
  for (std::int64_t c = 0; c < channels; ++c) {
    if (grad_weight) grad_weight[c] += sums[c];
    if (grad_bias) grad_bias[c] += sums[channels + c];
  }
}

}  // namespace qm::cpu
