// Residual + drop path, then LayerNorm where one follows, in one pass:
//
//   stream' = stream + s_b · branch,    y = LayerNorm(stream')
//
// with s_b = 0 or 1/(1 − rate) for the whole sample b (kernels/noise.h).
//
//   stream, branch (batch, rows_per_sample, channels), γ, β (channels) or null
//     →  stream', and y unless γ is null; saved with y: mean, rstd (rows)
// Backward, with G = grad_stream' + LayerNorm's gradient of grad_y (either may be null):
//   grad_stream = G, grad_branch = s_b G     assigned, each unless null
//   grad_γ, grad_β                           accumulated
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"
#include "kernels/base/step_record.h"

namespace qm {

/// Where and how strongly a branch is dropped.
struct DropPathSite {
  const StepRecord* record = nullptr;  ///< device memory; null = nothing is dropped
  std::uint32_t site = 0;
  float rate = 0;
};

template <class T>
struct ResidualNormForward {
  std::int64_t batch, rows_per_sample, channels;
  DropPathSite drop_path;
  const T* stream;
  const T* branch;
  const Real<T>* weight;
  const Real<T>* bias;
  T* stream_out;
  T* y;
  Real<T>* mean;
  Real<T>* rstd;
};

template <class T>
struct ResidualNormBackward {
  std::int64_t batch, rows_per_sample, channels;
  DropPathSite drop_path;
  const T* stream_out;
  const Real<T>* weight;
  const Real<T>* mean;
  const Real<T>* rstd;
  const T* grad_stream_out;
  const T* grad_y;
  T* grad_stream;
  T* grad_branch;
  Real<T>* grad_weight;
  Real<T>* grad_bias;
};

template <class T>
void residual_norm_forward(const Stream& stream, const ResidualNormForward<T>& p);
template <class T>
void residual_norm_backward(const Stream& stream, const ResidualNormBackward<T>& p);

namespace cpu {
template <class T>
void residual_norm_forward(const ResidualNormForward<T>& p);
template <class T>
void residual_norm_backward(const ResidualNormBackward<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void residual_norm_forward(const Stream& stream, const ResidualNormForward<T>& p);
template <class T>
void residual_norm_backward(const Stream& stream, const ResidualNormBackward<T>& p);
}  // namespace cuda

}  // namespace qm
