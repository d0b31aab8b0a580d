// Dense 3×3 convolution, padding 1, on channels-last maps, with bias:
//
//   y[b, i, j, o] = bias[o] + Σ_{ki, kj, c} weight[o, c, ki, kj] · x[b, i·stride + ki − 1, j·stride + kj − 1, c]
//
//   x (batch, height, width, in), weight (out, in, 3, 3), bias (out) or null
//     →  y (batch, out_height, out_width, out), out_extent = (extent − 1) / stride + 1
// Backward: grad_x assigned; grad_weight, grad_bias accumulated; each skipped where its pointer is null.
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"
#include "kernels/base/host_device.h"

namespace qm {

struct Conv2dShape {
  std::int64_t batch, height, width, in, out, stride;

  QM_HOST_DEVICE std::int64_t out_height() const { return (height - 1) / stride + 1; }
  QM_HOST_DEVICE std::int64_t out_width() const { return (width - 1) / stride + 1; }
};

template <class T>
struct Conv2dForward {
  Conv2dShape shape;
  const T* x;
  const Real<T>* weight;
  const Real<T>* bias;
  T* y;
};

template <class T>
struct Conv2dBackward {
  Conv2dShape shape;
  const T* x;
  const Real<T>* weight;
  const T* grad_y;
  T* grad_x;
  Real<T>* grad_weight;
  Real<T>* grad_bias;
};

template <class T>
void conv2d_forward(const Stream& stream, const Conv2dForward<T>& p);
template <class T>
void conv2d_backward(const Stream& stream, const Conv2dBackward<T>& p);

namespace cpu {
template <class T>
void conv2d_forward(const Conv2dForward<T>& p);
template <class T>
void conv2d_backward(const Conv2dBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void conv2d_forward(const Stream& stream, const Conv2dForward<T>& p);
template <class T>
void conv2d_backward(const Stream& stream, const Conv2dBackward<T>& p);
}  // namespace cuda

}  // namespace qm
