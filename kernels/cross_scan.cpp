#include "kernels/cross_scan.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

void check(const CrossScanShape& s) {
  QM_CHECK(s.batch >= 0 && s.height > 0 && s.width > 0 && s.scan.directions == 4 && s.scan.channels > 0 &&
               s.scan.states > 0 && s.scan.rank > 0,
           ShapeError, "cross_scan: batch ", s.batch, ", map ", s.height, "x", s.width, ", directions ",
           s.scan.directions, " (expected 4), channels ", s.scan.channels, ", states ", s.scan.states, ", rank ",
           s.scan.rank);
}

double tokens_of(const CrossScanShape& s) { return static_cast<double>(s.batch * s.height * s.width); }

/// x, the projection, z.
template <class T>
OpCost cost_of(const CrossScanForward<T>& p) {
  const ScanShape& s = p.shape.scan;
  return {.bytes = tokens_of(p.shape) * static_cast<double>(2 * s.channels + s.directions * s.projection()) * sizeof(T)};
}
/// x, the projection, grad_z, and the gradients of the first two.
template <class T>
OpCost cost_of(const CrossScanBackward<T>& p) {
  const ScanShape& s = p.shape.scan;
  return {.bytes =
              tokens_of(p.shape) * static_cast<double>(3 * s.channels + 2 * s.directions * s.projection()) * sizeof(T)};
}

}  // namespace

template <class T>
ScanSaved cross_scan_saved(Device device, const CrossScanShape& shape) {
#ifdef QM_HAVE_CUDA
  if (std::is_same_v<T, bfloat16> && device.type == DeviceType::kCuda) return cuda::cross_scan_saved_bf16(shape);
#endif
  (void)device, (void)shape;
  return {};
}

template ScanSaved cross_scan_saved<float>(Device, const CrossScanShape&);
template ScanSaved cross_scan_saved<double>(Device, const CrossScanShape&);
template ScanSaved cross_scan_saved<bfloat16>(Device, const CrossScanShape&);

template <class T>
void cross_scan_forward(const Stream& stream, const CrossScanForward<T>& p) {
  check(p.shape);
  QM_DISPATCH(cross_scan_forward, stream, p);
}

template <class T>
void cross_scan_backward(const Stream& stream, const CrossScanBackward<T>& p) {
  check(p.shape);
  QM_DISPATCH(cross_scan_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(cross_scan_forward, CrossScanForward)
QM_INSTANTIATE_CONTRACT(cross_scan_backward, CrossScanBackward)

}  // namespace qm
