// Global average pool: y[b, c] = mean over tokens of x[b, l, c].
//
//   x (batch, length, channels)  →  y (batch, channels), in Real<T>: what follows is small and decides on classes
// Backward: grad_x[b, l, c] = grad_y[b, c] / length      assigned
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

template <class T>
struct GlobalAvgPoolForward {
  std::int64_t batch, length, channels;
  const T* x;
  Real<T>* y;
};

template <class T>
struct GlobalAvgPoolBackward {
  std::int64_t batch, length, channels;
  const Real<T>* grad_y;
  T* grad_x;
};

template <class T>
void global_avg_pool_forward(const Stream& stream, const GlobalAvgPoolForward<T>& p);
template <class T>
void global_avg_pool_backward(const Stream& stream, const GlobalAvgPoolBackward<T>& p);

namespace cpu {
template <class T>
void global_avg_pool_forward(const GlobalAvgPoolForward<T>& p);
template <class T>
void global_avg_pool_backward(const GlobalAvgPoolBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void global_avg_pool_forward(const Stream& stream, const GlobalAvgPoolForward<T>& p);
template <class T>
void global_avg_pool_backward(const Stream& stream, const GlobalAvgPoolBackward<T>& p);
}  // namespace cuda

}  // namespace qm
