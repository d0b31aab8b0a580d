// Linear layer: y = x Wᵀ + b, one matrix product over all rows.
//
//   x (rows, in), weight (out, in), bias (out) or null  →  y (rows, out), all in T
//
// Backward, with grad_y (rows, out):
//   grad_x      = grad_y · W              assigned, or accumulated where grad_x_adds
//   grad_weight += grad_yᵀ · x            accumulated, in Real<T>
//   grad_bias   += Σ_rows grad_y          accumulated, in Real<T>
// Each of the three is skipped where its pointer is null.
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

template <class T>
struct LinearForward {
  std::int64_t rows, in, out;
  const T* x;
  const T* weight;
  const T* bias;
  T* y;
};

template <class T>
struct LinearBackward {
  std::int64_t rows, in, out;
  const T* x;
  const T* weight;
  const T* grad_y;
  T* grad_x;
  bool grad_x_adds;
  Real<T>* grad_weight;
  Real<T>* grad_bias;
};

template <class T>
void linear_forward(const Stream& stream, const LinearForward<T>& p);
template <class T>
void linear_backward(const Stream& stream, const LinearBackward<T>& p);

namespace cpu {
template <class T>
void linear_forward(const LinearForward<T>& p);
template <class T>
void linear_backward(const LinearBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void linear_forward(const Stream& stream, const LinearForward<T>& p);
template <class T>
void linear_backward(const Stream& stream, const LinearBackward<T>& p);
}  // namespace cuda

}  // namespace qm
