// Quadtree scan: partition + two-direction selective scan + merge (MODEL.md, core, steps 4 to 7), K = 2.
//
// The tokens of a map are put in the order of kernels/quad_order.h, s[p] = Σ_{tokens at p} x; s is scanned forwards
// (k = 0) and backwards (k = 1) by kernels/selective_scan.h's recurrence with kernels/scan_weights.h's parameters, the two
// are added to y[p], and every token takes y at its own position, z_t = y[position(t)]. Projections commute with the
// re-ordering, so they come un-permuted, one for each token of the map.
//
//   x (batch, height, width, D); projection (batch, height, width, K, R + 2N); selected (batch) quadrant 0…3
//     →  z (batch, out_height, out_width, D), the map cropped to its unpadded size; saved: y and states as quad_scan_saved
//        says (y is the scan's output in sequence order, where backward does not make it again)
// Backward, with position functions c (coarse) and f (fine), gz = grad_z (0 beyond the crop), gs the gradient of the
// sequence and gq that of its projections:
//   grad_x[t] = gs[position(t)], grad_projection[t] = gq[position(t)]                                 assigned
//   grad_one_hot[r] = Σ_{t∈r} ⟨x_t, gs[f(t)] − gs[c(t)]⟩ + ⟨projection_t, gq[f(t)] − gq[c(t)]⟩
//                          + ⟨gz_t, y[f(t)] − y[c(t)]⟩   for all four quadrants r                     assigned
//   gradients of the scan's weights                                                                   accumulated
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"
#include "kernels/quad_order.h"
#include "kernels/scan_weights.h"

namespace qm {

struct QuadScanShape {
  std::int64_t batch;
  QuadOrder order;                      ///< padded height and width, roll, fine order
  std::int64_t out_height, out_width;   ///< at most the padded ones
  ScanShape scan;                       ///< directions = 2
};

template <class T>
struct QuadScanForward {
  QuadScanShape shape;
  const T* x;
  const T* projection;
  const std::int32_t* selected;
  ScanWeights<T> weights;
  T* y;              ///< null where none is saved
  Real<T>* states;   ///< null where none are saved, or no backward pass follows
  T* z;
};

template <class T>
struct QuadScanBackward {
  QuadScanShape shape;
  const T* x;
  const T* projection;
  const std::int32_t* selected;
  ScanWeights<T> weights;
  const T* y;
  const Real<T>* states;
  const T* grad_z;
  T* grad_x;
  T* grad_projection;
  Real<T>* grad_one_hot;
  ScanWeightGradients<T> grad_weights;
};

template <class T>
ScanSaved quad_scan_saved(Device device, const QuadScanShape& shape);
template <class T>
void quad_scan_forward(const Stream& stream, const QuadScanForward<T>& p);
template <class T>
void quad_scan_backward(const Stream& stream, const QuadScanBackward<T>& p);

namespace cpu {
template <class T>
void quad_scan_forward(const QuadScanForward<T>& p);
template <class T>
void quad_scan_backward(const QuadScanBackward<T>& p);
}  // namespace cpu

namespace cuda {
/// The states alone for sweeps (kernels/cuda/core_sweep.cuh); y alone where the shape is not one for them.
ScanSaved quad_scan_saved_bf16(const QuadScanShape& shape);
template <class T>
void quad_scan_forward(const Stream& stream, const QuadScanForward<T>& p);
template <class T>
void quad_scan_backward(const Stream& stream, const QuadScanBackward<T>& p);
}  // namespace cuda

}  // namespace qm
