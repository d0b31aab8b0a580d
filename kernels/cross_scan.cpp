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

}  // namespace

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
