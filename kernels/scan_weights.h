// The parameters that a core's scan (quad_scan, cross_scan) turns a token's projection into Δ, A, B, C, D with.
//
// The projection of a token holds, for each direction k, R + 2N numbers: (δ | B | C). Then
//
//   Δ = softplus(dt_weight[k] · δ + dt_bias[k]),   A = −exp(A_logs),   D = skip
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/host_device.h"

namespace qm {

struct ScanShape {
  std::int64_t directions;  ///< K
  std::int64_t channels;    ///< D
  std::int64_t states;      ///< N
  std::int64_t rank;        ///< R

  /// Numbers a token and direction: δ, B, C.
  QM_HOST_DEVICE std::int64_t projection() const { return rank + 2 * states; }
};

template <class T>
struct ScanWeights {
  const Real<T>* dt_weight;  ///< (K, D, R)
  const Real<T>* dt_bias;    ///< (K, D)
  const Real<T>* A_logs;     ///< (K · D, N)
  const Real<T>* skip;       ///< (K · D)
};

/// What the forward pass of a core's scan leaves for its backward pass, in numbers. What they are is the back-end's own
/// business, and depends on the element type and the shape alone.
struct ScanSaved {
  std::int64_t y = 0;       ///< of T; working memory of the forward pass too
  std::int64_t states = 0;  ///< of Real<T>
};

/// Gradients of ScanWeights, accumulated.
template <class T>
struct ScanWeightGradients {
  Real<T>* dt_weight;
  Real<T>* dt_bias;
  Real<T>* A_logs;
  Real<T>* skip;
};

}  // namespace qm
