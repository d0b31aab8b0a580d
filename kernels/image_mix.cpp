#include "kernels/image_mix.h"

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

template <class Params>
void check(const Params& p) {
  QM_CHECK(p.batch >= 0 && p.height > 0 && p.width > 0 && p.classes > 0, ShapeError, "image_mix: batch ", p.batch,
           ", image ", p.height, "x", p.width, ", classes ", p.classes);
  QM_CHECK(!p.groups || (p.batch % 2 == 0 && p.mix_group > 0 && p.mix_group % 2 == 0 && p.record), ShapeError,
           "image_mix: mixing needs an even batch and group, got ", p.batch, " and ", p.mix_group);
}

}  // namespace

template <class T>
void image_mix(const Stream& stream, const ImageMix<T>& p) {
  check(p);
  QM_DISPATCH(image_mix, stream, p);
}

QM_INSTANTIATE_CONTRACT(image_mix, ImageMix)

}  // namespace qm
