// Cross scan: four selective scans over a map and their sum (VMamba's SS2D; MODEL.md, core), K = 4.
//
// Direction 0 walks the map row-major, 1 column-major, 2 and 3 are 0 and 1 reversed. Each scans with
// kernels/selective_scan.h's recurrence and kernels/scan_weights.h's parameters; the four outputs are summed in place:
//
//   x (batch, height, width, D); projection (batch, height, width, K, R + 2N)  →  z (batch, height, width, D); saved:
//   states, as cross_scan_saved says
// Backward: grad_x, grad_projection assigned; gradients of the scan's weights accumulated.
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"
#include "kernels/base/host_device.h"
#include "kernels/scan_weights.h"

namespace qm {

struct CrossScanShape {
  std::int64_t batch, height, width;
  ScanShape scan;  ///< directions = 4
};

/// Row-major index of the token that direction k visits at step l.
QM_HOST_DEVICE std::int64_t cross_token(std::int64_t height, std::int64_t width, int k, std::int64_t l) {
  if (k >= 2) l = height * width - 1 - l;
  return k % 2 == 0 ? l : l % height * width + l / height;
}

template <class T>
struct CrossScanForward {
  CrossScanShape shape;
  const T* x;
  const T* projection;
  ScanWeights<T> weights;
  Real<T>* states;  ///< null where none are saved, or no backward pass follows
  T* z;
};

template <class T>
struct CrossScanBackward {
  CrossScanShape shape;
  const T* x;
  const T* projection;
  ScanWeights<T> weights;
  const Real<T>* states;
  const T* grad_z;
  T* grad_x;
  T* grad_projection;
  ScanWeightGradients<T> grad_weights;
};

template <class T>
ScanSaved cross_scan_saved(Device device, const CrossScanShape& shape);
template <class T>
void cross_scan_forward(const Stream& stream, const CrossScanForward<T>& p);
template <class T>
void cross_scan_backward(const Stream& stream, const CrossScanBackward<T>& p);

namespace cpu {
template <class T>
void cross_scan_forward(const CrossScanForward<T>& p);
template <class T>
void cross_scan_backward(const CrossScanBackward<T>& p);
}  // namespace cpu

namespace cuda {
/// Of sweeps (kernels/cuda/core_sweep.cuh); nothing where the shape is not one for them.
ScanSaved cross_scan_saved_bf16(const CrossScanShape& shape);
template <class T>
void cross_scan_forward(const Stream& stream, const CrossScanForward<T>& p);
template <class T>
void cross_scan_backward(const Stream& stream, const CrossScanBackward<T>& p);
}  // namespace cuda

}  // namespace qm
