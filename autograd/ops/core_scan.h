// What the two cores' scans (quad_scan, cross_scan) take in common.
#pragma once

#include "autograd/tensor.h"
#include "autograd/tape.h"
#include "kernels/scan_weights.h"

namespace qm {

/// The parameters of a core's scan, under their published names.
struct CoreScanWeights {
  Tensor dt_projs_weight;  ///< (K, D, R)
  Tensor dt_projs_bias;    ///< (K, D)
  Tensor A_logs;           ///< (K·D, N)
  Tensor Ds;               ///< (K·D)

  std::vector<Tensor> list() const { return {dt_projs_weight, dt_projs_bias, A_logs, Ds}; }

  /// Checks the shapes against one another and returns the scan's. `op` names the caller in errors.
  ScanShape shape(const char* op) const;

  template <class T>
  ScanWeights<T> pointers() const {
    return {dt_projs_weight.data<Real<T>>(), dt_projs_bias.data<Real<T>>(), A_logs.data<Real<T>>(), Ds.data<Real<T>>()};
  }

  /// Where backward adds their gradients, given the index of the first of them among the recorded inputs.
  template <class T>
  static ScanWeightGradients<T> gradients(Backward& grad, int first) {
    const auto pointer = [&](int index) { return grad.needs(index) ? grad.accumulate(index).data<Real<T>>() : nullptr; };
    return {pointer(first), pointer(first + 1), pointer(first + 2), pointer(first + 3)};
  }
};

}  // namespace qm
