// Cross-entropy with soft targets: loss = scale · Σ_b −Σ_c target[b, c] · log-softmax(logits[b])[c].
//
// `scale` is 1 / global batch: the losses and gradients of micro-batches and ranks then simply add up.
//
//   logits (batch, classes), targets (batch, classes)  →  loss (1); saved: log_sum_exp (batch)
// Backward: grad_logits = grad_loss · scale · (softmax(logits) Σ_c target − target)      assigned
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

template <class T>
struct SoftCrossEntropyForward {
  std::int64_t batch, classes;
  double scale;
  const T* logits;
  const Real<T>* targets;
  Real<T>* loss;
  Real<T>* log_sum_exp;
};

template <class T>
struct SoftCrossEntropyBackward {
  std::int64_t batch, classes;
  double scale;
  const T* logits;
  const Real<T>* targets;
  const Real<T>* log_sum_exp;
  const Real<T>* grad_loss;
  T* grad_logits;
};

template <class T>
void soft_cross_entropy_forward(const Stream& stream, const SoftCrossEntropyForward<T>& p);
template <class T>
void soft_cross_entropy_backward(const Stream& stream, const SoftCrossEntropyBackward<T>& p);

namespace cpu {
template <class T>
void soft_cross_entropy_forward(const SoftCrossEntropyForward<T>& p);
template <class T>
void soft_cross_entropy_backward(const SoftCrossEntropyBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void soft_cross_entropy_forward(const Stream& stream, const SoftCrossEntropyForward<T>& p);
template <class T>
void soft_cross_entropy_backward(const Stream& stream, const SoftCrossEntropyBackward<T>& p);
}  // namespace cuda

}  // namespace qm
