// The score predictor's end: log-softmax over two channels, channel 0 is a token's score, averaged over each quadrant.
//
//   score_t = x_t0 − ln(e^{x_t0} + e^{x_t1}),   logits[q] = mean over the tokens of quadrant q
//
//   x (batch, height, width, 2), height and width even  →  logits (batch, 4): top-left, top-right, bottom-left,
//   bottom-right
// Backward needs x: grad_x_t = g_q / (tokens a quadrant) · (p_t1, −p_t1), p = softmax(x_t)      assigned
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

template <class T>
struct ScorePoolForward {
  std::int64_t batch, height, width;
  const T* x;
  Real<T>* logits;
};

template <class T>
struct ScorePoolBackward {
  std::int64_t batch, height, width;
  const T* x;
  const Real<T>* grad_logits;
  T* grad_x;
};

template <class T>
void score_pool_forward(const Stream& stream, const ScorePoolForward<T>& p);
template <class T>
void score_pool_backward(const Stream& stream, const ScorePoolBackward<T>& p);

namespace cpu {
template <class T>
void score_pool_forward(const ScorePoolForward<T>& p);
template <class T>
void score_pool_backward(const ScorePoolBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void score_pool_forward(const Stream& stream, const ScorePoolForward<T>& p);
template <class T>
void score_pool_backward(const Stream& stream, const ScorePoolBackward<T>& p);
}  // namespace cuda

}  // namespace qm
