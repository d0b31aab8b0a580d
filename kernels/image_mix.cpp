#include "kernels/image_mix.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class Params>
void check(const Params& p) {
  QM_CHECK(p.batch >= 0 && p.height > 0 && p.width > 0 && p.classes > 0, ShapeError, "image_mix: batch ", p.batch,
           ", image ", p.height, "x", p.width, ", classes ", p.classes);
  const bool group_fits = p.mix_group == 1 || (p.mix_group > 0 && p.mix_group % 2 == 0);
  QM_CHECK(!p.groups || (p.batch % 2 == 0 && group_fits && p.record), ShapeError,
           "image_mix: mixing needs an even batch and a group of 1 or an even number, got ", p.batch, " and ",
           p.mix_group);
  QM_CHECK(!p.erased || (p.boxes > 0 && p.height * p.width < std::int64_t{1} << 24), ShapeError, "image_mix: erasing ",
           p.boxes, " boxes of an image of ", p.height, "x", p.width);
}

/// The images and their partners, and x.
template <class T>
OpCost cost_of(const ImageMix<T>& p) {
  return {.bytes = static_cast<double>(p.batch * p.height * p.width) * 3 * (sizeof(T) + (p.groups ? 2 : 1))};
}

}  // namespace

template <class T>
void image_mix(const Stream& stream, const ImageMix<T>& p) {
  check(p);
  QM_DISPATCH(image_mix, stream, p);
}

QM_INSTANTIATE_CONTRACT(image_mix, ImageMix)

}  // namespace qm
