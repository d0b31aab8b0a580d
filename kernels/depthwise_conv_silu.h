// Depthwise 3×3 convolution (padding 1, stride 1, no bias) and SiLU in one pass, with zero-padding of the result:
//
//   v[b, i, j, d] = Σ_{ki, kj} weight[d, 0, ki, kj] · x[b, i + ki − 1, j + kj − 1, d],   y = v · σ(v)
//
//   x (batch, height, width, channels), weight (channels, 1, 3, 3)
//     →  y (batch, out_height, out_width, channels), out ≥ in; rows and columns beyond the map are 0
// The padding is the quadtree scan's: it wants extents that are multiples of 4 and pads after SiLU.
// Backward recomputes v from x: grad_x assigned; grad_weight accumulated.
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

struct DepthwiseShape {
  std::int64_t batch, height, width, channels, out_height, out_width;
};

template <class T>
struct DepthwiseConvSiluForward {
  DepthwiseShape shape;
  const T* x;
  const Real<T>* weight;
  T* y;
};

template <class T>
struct DepthwiseConvSiluBackward {
  DepthwiseShape shape;
  const T* x;
  const Real<T>* weight;
  const T* grad_y;
  T* grad_x;
  Real<T>* grad_weight;
};

template <class T>
void depthwise_conv_silu_forward(const Stream& stream, const DepthwiseConvSiluForward<T>& p);
template <class T>
void depthwise_conv_silu_backward(const Stream& stream, const DepthwiseConvSiluBackward<T>& p);

namespace cpu {
template <class T>
void depthwise_conv_silu_forward(const DepthwiseConvSiluForward<T>& p);
template <class T>
void depthwise_conv_silu_backward(const DepthwiseConvSiluBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void depthwise_conv_silu_forward(const Stream& stream, const DepthwiseConvSiluForward<T>& p);
template <class T>
void depthwise_conv_silu_backward(const Stream& stream, const DepthwiseConvSiluBackward<T>& p);
}  // namespace cuda

}  // namespace qm
