#include "kernels/pixel_ops.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

void check(const PixelOps& p) {
  QM_CHECK(p.batch >= 0 && p.height > 0 && p.width > 0 && p.height < (std::int64_t{1} << 30) / p.width &&
               p.ops_per_image >= 0,
           ShapeError, "pixel_ops: batch ", p.batch, ", image ", p.height, "x", p.width, ", ", p.ops_per_image,
           " operations an image");
}

/// Every operation reads its image and writes it.
OpCost cost_of(const PixelOps& p) {
  return {.bytes = static_cast<double>(p.batch * p.height * p.width) * 3 * 2 * static_cast<double>(p.ops_per_image)};
}

}  // namespace

void pixel_ops(const Stream& stream, const PixelOps& p) {
  check(p);
  using T = float;  // what QM_DISPATCH tells types that a device lacks by: bytes are on both
  QM_DISPATCH(pixel_ops, stream, p);
}

}  // namespace qm
