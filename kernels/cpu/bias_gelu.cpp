#include "kernels/bias_gelu.h"

#include <cmath>
#include <numbers>

#include "kernels/base/dispatch.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace qm::cpu {
namespace {

template <class T>
inline T gaussian_cdf(T v) {
  return T(0.5) * (T(1) + std::erf(v * static_cast<T>(std::numbers::sqrt2 / 2)));
}

template <class T>
inline T gaussian_density(T v) {
  constexpr T kScale = static_cast<T>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
  return kScale * std::exp(T(-0.5) * v * v);
}

}  // namespace

template <class T>
void bias_gelu_forward(const BiasGeluForward<T>& p) {
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < p.rows; ++row) {
    const T* x = p.x + row * p.channels;
    T* y = p.y + row * p.channels;
#pragma omp simd
    for (std::int64_t c = 0; c < p.channels; ++c) {
      const T v = p.bias ? x[c] + p.bias[c] : x[c];
      y[c] = v * gaussian_cdf(v);
    }
  }
}

template <class T>
void bias_gelu_backward(const BiasGeluBackward<T>& p) {
  const auto backward_rows = [&](std::int64_t first, std::int64_t last, T* grad_bias) {
    for (std::int64_t row = first; row < last; ++row) {
      const T* x = p.x + row * p.channels;
      const T* grad_y = p.grad_y + row * p.channels;
      T* grad_x = p.grad_x + row * p.channels;
#pragma omp simd
      for (std::int64_t c = 0; c < p.channels; ++c) {
        const T v = p.bias ? x[c] + p.bias[c] : x[c];
        grad_x[c] = grad_y[c] * (gaussian_cdf(v) + v * gaussian_density(v));
      }
#pragma omp simd
      for (std::int64_t c = 0; c < p.channels; ++c) grad_bias[c] += grad_x[c];
    }
  };
  std::vector<T> unused;
  T* grad_bias = p.grad_bias;
  if (!grad_bias) {
    unused.resize(static_cast<std::size_t>(p.channels));
    grad_bias = unused.data();
  }
  accumulate_over_rows(p.rows, p.channels, grad_bias, backward_rows);
}

QM_INSTANTIATE_CPU(bias_gelu_forward, BiasGeluForward)
QM_INSTANTIATE_CPU(bias_gelu_backward, BiasGeluBackward)

}  // namespace qm::cpu
