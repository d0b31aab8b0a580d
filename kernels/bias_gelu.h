// Bias and GELU in one pass: y = gelu(x + b), gelu(v) = v Φ(v) = v/2 · (1 + erf(v/√2)), the exact form.
//
//   x (rows, channels), bias (channels) or null  →  y (rows, channels); x is what backward needs
//   grad_x = grad_y · (Φ(v) + v φ(v))     assigned
//   grad_bias += Σ_rows grad_x            accumulated
// y may be x; on the CPU grad_x may be grad_y.
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

template <class T>
struct BiasGeluForward {
  std::int64_t rows, channels;
  const T* x;
  const Real<T>* bias;
  T* y;
};

template <class T>
struct BiasGeluBackward {
  std::int64_t rows, channels;
  const T* x;
  const Real<T>* bias;
  const T* grad_y;
  T* grad_x;
  Real<T>* grad_bias;
};

template <class T>
void bias_gelu_forward(const Stream& stream, const BiasGeluForward<T>& p);
template <class T>
void bias_gelu_backward(const Stream& stream, const BiasGeluBackward<T>& p);

namespace cpu {
template <class T>
void bias_gelu_forward(const BiasGeluForward<T>& p);
template <class T>
void bias_gelu_backward(const BiasGeluBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void bias_gelu_forward(const Stream& stream, const BiasGeluForward<T>& p);
template <class T>
void bias_gelu_backward(const Stream& stream, const BiasGeluBackward<T>& p);
}  // namespace cuda

}  // namespace qm
