// Selective scan, the general form (Gu & Dao, "Mamba", 2023), per image, direction k, channel d:
//
//   Δ_l = softplus(delta_l + delta_bias)             softplus(x) = ln(1 + eˣ), x for x > 20
//   h_l = exp(Δ_l A) h_{l−1} + Δ_l B_l u_l           h_{−1} = 0; N states
//   y_l = ⟨C_l, h_l⟩ + D u_l
//
//   u, delta (batch, length, directions, channels); B, C (batch, length, directions, states);
//   A (directions · channels, states), negative; D, delta_bias (directions · channels)
//     →  y (batch, length, directions, channels)
// Backward runs the forward recurrence again and saves nothing: grad_u, grad_delta, grad_B, grad_C assigned; grad_A,
// grad_D, grad_delta_bias accumulated.
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

inline constexpr double kSoftplusThreshold = 20;

struct SelectiveScanShape {
  std::int64_t batch, length, directions, channels, states;
};

template <class T>
struct SelectiveScanForward {
  SelectiveScanShape shape;
  const T* u;
  const T* delta;
  const Real<T>* A;
  const T* B;
  const T* C;
  const Real<T>* D;
  const Real<T>* delta_bias;
  T* y;
};

template <class T>
struct SelectiveScanBackward {
  SelectiveScanShape shape;
  const T* u;
  const T* delta;
  const Real<T>* A;
  const T* B;
  const T* C;
  const Real<T>* D;
  const Real<T>* delta_bias;
  const T* grad_y;
  T* grad_u;
  T* grad_delta;
  Real<T>* grad_A;
  T* grad_B;
  T* grad_C;
  Real<T>* grad_D;
  Real<T>* grad_delta_bias;
};

template <class T>
void selective_scan_forward(const Stream& stream, const SelectiveScanForward<T>& p);
template <class T>
void selective_scan_backward(const Stream& stream, const SelectiveScanBackward<T>& p);

namespace cpu {
template <class T>
void selective_scan_forward(const SelectiveScanForward<T>& p);
template <class T>
void selective_scan_backward(const SelectiveScanBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void selective_scan_forward(const Stream& stream, const SelectiveScanForward<T>& p);
template <class T>
void selective_scan_backward(const Stream& stream, const SelectiveScanBackward<T>& p);
}  // namespace cuda

}  // namespace qm
