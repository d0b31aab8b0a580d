// LayerNorm over channels: y = (x − μ) · rstd · γ + β, with μ, rstd = 1/√(σ² + ε) of each row (biased variance).
//
//   x (rows, channels), γ, β (channels)  →  y (rows, channels); saved: mean, rstd (rows)
// Backward, with n = (x − μ) rstd and g = grad_y γ:
//   grad_x = rstd · (g − mean_c(g) − n · mean_c(g n))     assigned, or accumulated where grad_x_adds
//   grad_γ += Σ_rows grad_y n,  grad_β += Σ_rows grad_y   accumulated
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

inline constexpr double kLayerNormEpsilon = 1e-5;

template <class T>
struct LayerNormForward {
  std::int64_t rows, channels;
  const T* x;
  const Real<T>* weight;
  const Real<T>* bias;
  T* y;
  Real<T>* mean;
  Real<T>* rstd;
};

template <class T>
struct LayerNormBackward {
  std::int64_t rows, channels;
  const T* x;
  const Real<T>* weight;
  const Real<T>* mean;
  const Real<T>* rstd;
  const T* grad_y;
  T* grad_x;
  bool grad_x_adds;
  Real<T>* grad_weight;
  Real<T>* grad_bias;
};

template <class T>
void layer_norm_forward(const Stream& stream, const LayerNormForward<T>& p);
template <class T>
void layer_norm_backward(const Stream& stream, const LayerNormBackward<T>& p);

namespace cpu {
template <class T>
void layer_norm_forward(const LayerNormForward<T>& p);
template <class T>
void layer_norm_backward(const LayerNormBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void layer_norm_forward(const Stream& stream, const LayerNormForward<T>& p);
template <class T>
void layer_norm_backward(const Stream& stream, const LayerNormBackward<T>& p);
}  // namespace cuda

}  // namespace qm
