// Straight-through Gumbel-softmax over four quadrants, temperature 1 (Jang et al., 2017; Bengio et al., 2013).
//
//   soft = softmax(logits + g),   selected = argmax (the first on ties),   one_hot[selected] = 1
//
// The noise g is, in this order: `noise` (batch, 4) where given; drawn by kernels/noise.h from `record` where given;
// else 0. `forced` (batch), where given, replaces the arg-max. Saved: soft.
// Backward is that of soft: grad_logits_i = soft_i (g_i − Σ_j g_j soft_j)      assigned
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"
#include "kernels/base/step_record.h"

namespace qm {

/// Logits, noise and results are Real<T>: the choice of a quadrant is never made in bfloat16.
template <class T>
struct GumbelSoftmaxForward {
  std::int64_t batch;
  const Real<T>* logits;
  const Real<T>* noise;
  const StepRecord* record;
  std::uint32_t site;
  const std::int32_t* forced;
  Real<T>* soft;
  Real<T>* one_hot;
  std::int32_t* selected;
};

template <class T>
struct GumbelSoftmaxBackward {
  std::int64_t batch;
  const Real<T>* soft;
  const Real<T>* grad_one_hot;
  Real<T>* grad_logits;
};

template <class T>
void gumbel_softmax_forward(const Stream& stream, const GumbelSoftmaxForward<T>& p);
template <class T>
void gumbel_softmax_backward(const Stream& stream, const GumbelSoftmaxBackward<T>& p);

namespace cpu {
template <class T>
void gumbel_softmax_forward(const GumbelSoftmaxForward<T>& p);
template <class T>
void gumbel_softmax_backward(const GumbelSoftmaxBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void gumbel_softmax_forward(const Stream& stream, const GumbelSoftmaxForward<T>& p);
template <class T>
void gumbel_softmax_backward(const Stream& stream, const GumbelSoftmaxBackward<T>& p);
}  // namespace cuda

}  // namespace qm
