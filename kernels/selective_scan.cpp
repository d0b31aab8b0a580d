#include "kernels/selective_scan.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

void check(const SelectiveScanShape& s) {
  QM_CHECK(s.batch >= 0 && s.length > 0 && s.directions > 0 && s.channels > 0 && s.states > 0, ShapeError,
           "selective_scan: batch ", s.batch, ", length ", s.length, ", directions ", s.directions, ", channels ",
           s.channels, ", states ", s.states);
}

}  // namespace

template <class T>
void selective_scan_forward(const Stream& stream, const SelectiveScanForward<T>& p) {
  check(p.shape);
  QM_DISPATCH(selective_scan_forward, stream, p);
}

template <class T>
void selective_scan_backward(const Stream& stream, const SelectiveScanBackward<T>& p) {
  check(p.shape);
  QM_DISPATCH(selective_scan_backward, stream, p);
}

QM_INSTANTIATE_CONTRACT(selective_scan_forward, SelectiveScanForward)
QM_INSTANTIATE_CONTRACT(selective_scan_backward, SelectiveScanBackward)

}  // namespace qm
