// A linear layer and the GELU behind it, or before it: where the product is one of few enough channels, in one pass over
// memory. gelu is the exact form of kernels/bias_gelu.h.
//
//   linear_gelu_forward:   y = gelu(pre + b),  pre = x Wᵀ
//     x (rows, in), weight (out, in), bias (out)  →  y (rows, out), and pre (rows, out) unless that is null; saved: pre
//
//   gelu_linear_backward:  the gradient, with respect to pre and b, of gelu(pre + b) Wᵀ
//     grad_y (rows, out), weight (out, in), pre (rows, in), bias (in)
//       →  grad_pre = (grad_y W) · gelu'(pre + b)  (rows, in)   assigned
//          grad_bias += Σ_rows grad_pre                         accumulated, in Real<T>; unless null
//
// The bias is never null. pre is rounded to T before the bias is added, so that both directions see the same number; whether grad_y W is rounded
// before it is multiplied is left open.
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

template <class T>
struct LinearGeluForward {
  std::int64_t rows, in, out;
  const T* x;
  const T* weight;
  const Real<T>* bias;
  T* pre;
  T* y;
};

template <class T>
struct GeluLinearBackward {
  std::int64_t rows, in, out;
  const T* grad_y;
  const T* weight;
  const T* pre;
  const Real<T>* bias;
  T* grad_pre;
  Real<T>* grad_bias;
};

template <class T>
void linear_gelu_forward(const Stream& stream, const LinearGeluForward<T>& p);
template <class T>
void gelu_linear_backward(const Stream& stream, const GeluLinearBackward<T>& p);

namespace cpu {
template <class T>
void linear_gelu_forward(const LinearGeluForward<T>& p);
template <class T>
void gelu_linear_backward(const GeluLinearBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void linear_gelu_forward(const Stream& stream, const LinearGeluForward<T>& p);
template <class T>
void gelu_linear_backward(const Stream& stream, const GeluLinearBackward<T>& p);
}  // namespace cuda

}  // namespace qm
