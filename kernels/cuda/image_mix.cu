#include "kernels/image_mix.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/launch.cuh"

// x = w own + (1 − w) partner,   w = 0 inside the group's box, else its pixel weight
// own, partner = value / (255 std) − mean / std, or noise inside an erased box
// target = v smooth(label) + (1 − v) smooth(partner's label),   v the group's target weight, partner = row XOR 1
namespace qm::cuda {
namespace {

template <class R>
struct PixelScale {
  R scale[3], shift[3];
};

template <class T>
__device__ __forceinline__ MixGroup mix_of(const ImageMix<T>& p, std::int64_t row) {
  return p.groups ? p.groups[(p.record->first_position + row) / p.mix_group] : MixGroup{};
}

// A value before it is mixed: `within` counts the values of image `row`.
template <class T>
__device__ __forceinline__ Real<T> own_value(const ImageMix<T>& p, std::int64_t row, std::int64_t within, Real<T> scale,
                                             Real<T> shift) {
  const std::int64_t row_size = p.width * 3;
  const Real<T> value = static_cast<Real<T>>(p.images[row * p.height * row_size + within]) * scale - shift;
  if (!p.erased) return value;
  const std::int64_t i = within / row_size, j = within % row_size / 3;
  return erased_or(value, p.erased + row * p.boxes, p.boxes, i, j, p.width, static_cast<int>(within % 3));
}

// A thread a value of a pixel: images, x (count) = (batch, height, width, 3); groups (groups of the global batch) or
// null; erased (batch, boxes) or null; record one.
template <class T>
__global__ void image_mix_pixel_kernel(std::int64_t count, ImageMix<T> p, PixelScale<Real<T>> pixel) {
  using R = Real<T>;
  const std::int64_t at = global_thread();
  if (at >= count) return;
  const std::int64_t row_size = p.width * 3, image_size = p.height * row_size;
  const std::int64_t row = at / image_size, within = at % image_size;
  const std::int64_t i = within / row_size, j = within % row_size / 3;
  const MixGroup mix = mix_of(p, row);
  const bool boxed = i >= mix.top && i < mix.bottom && j >= mix.left && j < mix.right;
  const R weight = boxed ? R(0) : static_cast<R>(mix.pixel_weight);
  const int c = static_cast<int>(within % 3);
  R value = own_value(p, row, within, pixel.scale[c], pixel.shift[c]);
  // The last row of an unmixed batch may have no partner.
  if (weight != R(1)) {
    value = weight * value + (R(1) - weight) * own_value(p, row ^ 1, within, pixel.scale[c], pixel.shift[c]);
  }
  p.x[at] = from_real<T>(value);
}

// A thread a target: labels (batch), targets (count) = (batch, classes); groups and record as above.
template <class T>
__global__ void image_mix_target_kernel(std::int64_t count, ImageMix<T> p) {
  using R = Real<T>;
  const std::int64_t at = global_thread();
  if (at >= count) return;
  const std::int64_t row = at / p.classes, c = at % p.classes;
  const MixGroup mix = mix_of(p, row);
  const double on = 1 - p.label_smoothing;
  R target = static_cast<R>(p.label_smoothing / static_cast<double>(p.classes));
  if (c == p.labels[row]) target += static_cast<R>(on * mix.target_weight);
  if (mix.target_weight != 1 && c == p.labels[row ^ 1]) target += static_cast<R>(on * (1 - mix.target_weight));
  p.targets[at] = target;
}

}  // namespace

template <class T>
void image_mix(const Stream& stream, const ImageMix<T>& p) {
  if (p.batch == 0) return;
  PixelScale<Real<T>> pixel;
  for (int c = 0; c < 3; ++c) {
    pixel.scale[c] = static_cast<Real<T>>(1 / (255 * p.std[c]));
    pixel.shift[c] = static_cast<Real<T>>(p.mean[c] / p.std[c]);
  }
  const std::int64_t values = p.batch * p.height * p.width * 3;
  image_mix_pixel_kernel<<<blocks_for(values), kBlock, 0, native(stream)>>>(values, p, pixel);
  check_launch("image_mix_pixel");
  if (!p.targets) return;
  const std::int64_t targets = p.batch * p.classes;
  image_mix_target_kernel<<<blocks_for(targets), kBlock, 0, native(stream)>>>(targets, p);
  check_launch("image_mix_target");
}

QM_INSTANTIATE_CUDA(image_mix, ImageMix)

}  // namespace qm::cuda
