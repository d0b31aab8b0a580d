// The recurrence of kernels/selective_scan.h along one direction of one image, shared by selective_scan, quad_scan and
// cross_scan. What differs between them is where a step's numbers come from and where its results go; that is what the
// callbacks say, and so tokens are walked in any order without being moved.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/cpu/vector_math.h"
#include "kernels/selective_scan.h"

namespace qm::cpu {

/// What one direction scans with. Channels are contiguous everywhere, so that the inner loops run over vectors.
template <class T>
struct ScanDirection {
  std::int64_t length, channels, states;
  const T* A;     ///< (states, channels), negative
  const T* skip;  ///< (channels)
};

/// One step's numbers: filled by a `load(l, token)` callback in the forward pass and in backward.
template <class T>
struct ScanToken {
  std::vector<T> u, dt, B, C;  ///< dt: before softplus, bias included

  ScanToken(std::int64_t channels, std::int64_t states)
      : u(channels), dt(channels), B(states), C(states) {}
};

/// One step's gradients: handed to the `emit(l, grad)` callback of backward.
template <class T>
using ScanTokenGradient = ScanToken<T>;

template <class T>
inline T softplus(T x) {
  constexpr T kThreshold = static_cast<T>(kSoftplusThreshold);
  // The exponent is clamped so that the branch not taken cannot overflow: both sides are evaluated in vector code.
  return x > kThreshold ? x : std::log1p(std::exp(x > kThreshold ? kThreshold : x));
}

template <class T>
inline T softplus_gradient(T x) {
  return x > static_cast<T>(kSoftplusThreshold) ? T(1) : T(1) / (T(1) + std::exp(-x));
}

/// h ← exp(Δ A) h + Δ B u for all channels of one state.
template <class T>
inline void advance_state(std::int64_t channels, const T* delta, const T* A, T B, const T* u, const T* previous, T* h) {
#pragma omp simd
  for (std::int64_t d = 0; d < channels; ++d) h[d] = std::exp(delta[d] * A[d]) * previous[d] + delta[d] * B * u[d];
}

/// load(l, ScanToken&) fills step l; store(l, const T* y) takes its output (channels).
template <class T, class Load, class Store>
void scan_forward(const ScanDirection<T>& scan, Load load, Store store) {
  const std::int64_t channels = scan.channels, states = scan.states;
  ScanToken<T> token(channels, states);
  std::vector<T> h(states * channels, T(0)), delta(channels), y(channels);
  for (std::int64_t l = 0; l < scan.length; ++l) {
    load(l, token);
#pragma omp simd
    for (std::int64_t d = 0; d < channels; ++d) {
      delta[d] = softplus(token.dt[d]);
      y[d] = scan.skip[d] * token.u[d];
    }
    for (std::int64_t n = 0; n < states; ++n) {
      T* h_n = h.data() + n * channels;
      advance_state(channels, delta.data(), scan.A + n * channels, token.B[n], token.u.data(), h_n, h_n);
      const T C = token.C[n];
#pragma omp simd
      for (std::int64_t d = 0; d < channels; ++d) y[d] += C * h_n[d];
    }
    store(l, y.data());
  }
}

/// grad_A (states, channels) and grad_skip (channels) are added to; load_grad(l, T* grad_y) fills the gradient of step l's
/// output; emit(l, ScanTokenGradient&) takes the gradients of its inputs and may overwrite them. Steps are emitted from the
/// last to the first.
///
/// With G_l the gradient of h_l (its own C_l grad_y_l plus exp(Δ_{l+1} A) G_{l+1} from the next step):
///   ∂B_l = Σ_d G Δ u,  ∂C_l = Σ_d grad_y h,  ∂u = D grad_y + Σ_n G Δ B,
///   ∂Δ = Σ_n G (A exp(Δ A) h_{l−1} + B u),  ∂A += G exp(Δ A) h_{l−1} Δ.
template <class T, class Load, class LoadGrad, class Emit>
void scan_backward(const ScanDirection<T>& scan, Load load, LoadGrad load_grad, Emit emit, T* grad_A, T* grad_skip) {
  const std::int64_t channels = scan.channels, states = scan.states, width = states * channels;
  ScanToken<T> token(channels, states);
  // states_at[l + 1] is h_l; states_at[0] the zero before the first step.
  std::vector<T> states_at((scan.length + 1) * width, T(0)), delta(channels);
  for (std::int64_t l = 0; l < scan.length; ++l) {
    load(l, token);
#pragma omp simd
    for (std::int64_t d = 0; d < channels; ++d) delta[d] = softplus(token.dt[d]);
    for (std::int64_t n = 0; n < states; ++n) {
      const T* previous = states_at.data() + l * width + n * channels;
      advance_state(channels, delta.data(), scan.A + n * channels, token.B[n], token.u.data(), previous,
                    states_at.data() + (l + 1) * width + n * channels);
    }
  }

  ScanTokenGradient<T> grad(channels, states);
  std::vector<T> grad_h(width, T(0)), grad_y(channels);
  for (std::int64_t l = scan.length - 1; l >= 0; --l) {
    load(l, token);
    load_grad(l, grad_y.data());
    T* grad_u = grad.u.data();
    T* grad_delta = grad.dt.data();
    const T* u = token.u.data();
#pragma omp simd
    for (std::int64_t d = 0; d < channels; ++d) {
      delta[d] = softplus(token.dt[d]);
      grad_u[d] = scan.skip[d] * grad_y[d];
      grad_delta[d] = 0;
      grad_skip[d] += grad_y[d] * u[d];
    }
    for (std::int64_t n = 0; n < states; ++n) {
      const T* A = scan.A + n * channels;
      const T* h_previous = states_at.data() + l * width + n * channels;
      const T* h = h_previous + width;
      T* g = grad_h.data() + n * channels;
      T* grad_A_n = grad_A + n * channels;
      const T B = token.B[n], C = token.C[n];
      T sum_B = 0, sum_C = 0;
#pragma omp simd reduction(+ : sum_B, sum_C)
      for (std::int64_t d = 0; d < channels; ++d) {
        const T decay = std::exp(delta[d] * A[d]);
        const T g_d = g[d] + C * grad_y[d];
        const T carried = g_d * decay * h_previous[d];
        sum_C += grad_y[d] * h[d];
        sum_B += g_d * delta[d] * u[d];
        grad_u[d] += g_d * delta[d] * B;
        grad_delta[d] += carried * A[d] + g_d * B * u[d];
        grad_A_n[d] += carried * delta[d];
        g[d] = g_d * decay;
      }
      grad.B[n] = sum_B;
      grad.C[n] = sum_C;
    }
#pragma omp simd
    for (std::int64_t d = 0; d < channels; ++d) grad_delta[d] *= softplus_gradient(token.dt[d]);
    emit(l, grad);
  }
}

}  // namespace qm::cpu
