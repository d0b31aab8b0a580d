#include "kernels/quad_scan.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

void check(const QuadScanShape& s) {
  QM_CHECK(s.order.height > 0 && s.order.width > 0 && s.order.height % 4 == 0 && s.order.width % 4 == 0, ShapeError,
           "quad_scan: expected a map padded to multiples of 4, got ", s.order.height, "x", s.order.width);
  QM_CHECK(s.out_height > 0 && s.out_height <= s.order.height && s.out_width > 0 && s.out_width <= s.order.width,
           ShapeError, "quad_scan: cannot crop ", s.order.height, "x", s.order.width, " to ", s.out_height, "x",
           s.out_width);
  QM_CHECK(s.batch >= 0 && s.scan.directions == 2 && s.scan.channels > 0 && s.scan.states > 0 && s.scan.rank > 0,
           ShapeError, "quad_scan: batch ", s.batch, ", directions ", s.scan.directions, " (expected 2), channels ",
           s.scan.channels, ", states ", s.scan.states, ", rank ", s.scan.rank);
}

double tokens_of(const QuadScanShape& s) { return static_cast<double>(s.batch * s.order.length()); }

/// x, the projection, z.
template <class T>
OpCost cost_of(const QuadScanForward<T>& p) {
  const ScanShape& s = p.shape.scan;
  return {.bytes = tokens_of(p.shape) * static_cast<double>(2 * s.channels + s.directions * s.projection()) * sizeof(T)};
}
/// x, the projection, grad_z, and the gradients of the first two.
template <class T>
OpCost cost_of(const QuadScanBackward<T>& p) {
  const ScanShape& s = p.shape.scan;
  return {.bytes =
              tokens_of(p.shape) * static_cast<double>(3 * s.channels + 2 * s.directions * s.projection()) * sizeof(T)};
}

}  // namespace

template <class T>
ScanSaved quad_scan_saved(Device device, const QuadScanShape& s) {
#ifdef QM_HAVE_CUDA
  if (std::is_same_v<T, bfloat16> && device.type == DeviceType::kCuda) return cuda::quad_scan_saved_bf16(s);
#endif
  (void)device;
  return {.y = s.batch * s.order.length() * s.scan.channels};
}

template ScanSaved quad_scan_saved<float>(Device, const QuadScanShape&);
template ScanSaved quad_scan_saved<double>(Device, const QuadScanShape&);
template ScanSaved quad_scan_saved<bfloat16>(Device, const QuadScanShape&);

template <class T>
void quad_scan_forward(const Stream& stream, const QuadScanForward<T>& p) {
  check(p.shape);
  QM_DISPATCH(quad_scan_forward, stream, p);
}

template <class T>
void quad_scan_backward(const Stream& stream, const QuadScanBackward<T>& p) {
  check(p.shape);
  QM_DISPATCH(quad_scan_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(quad_scan_forward, QuadScanForward)
QM_INSTANTIATE_CONTRACT(quad_scan_backward, QuadScanBackward)

}  // namespace qm
