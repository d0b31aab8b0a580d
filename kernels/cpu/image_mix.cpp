#include "kernels/image_mix.h"

#include "kernels/base/dispatch.h"

namespace qm::cpu {
namespace {

/// A value of an image before it is mixed.
template <class T>
T own_value(const ImageMix<T>& p, std::int64_t row, std::int64_t i, std::int64_t j, int c, T scale, T shift) {
  const T value = static_cast<T>(p.images[((row * p.height + i) * p.width + j) * 3 + c]) * scale - shift;
  return p.erased ? erased_or(value, p.erased + row * p.boxes, p.boxes, i, j, p.width, c) : value;
}

template <class T>
void write_pixels(const ImageMix<T>& p, std::int64_t row, const MixGroup& mix) {
  const std::int64_t image = p.height * p.width * 3;
  T scale[3], shift[3];
  for (int c = 0; c < 3; ++c) {
    scale[c] = static_cast<T>(1 / (255 * p.std[c]));
    shift[c] = static_cast<T>(p.mean[c] / p.std[c]);
  }
  const T weight = static_cast<T>(mix.pixel_weight);
  for (std::int64_t i = 0; i < p.height; ++i) {
    for (std::int64_t j = 0; j < p.width; ++j) {
      const bool boxed = i >= mix.top && i < mix.bottom && j >= mix.left && j < mix.right;
      const T own_weight = boxed ? T(0) : weight;
      for (int c = 0; c < 3; ++c) {
        const std::int64_t at = (i * p.width + j) * 3 + c;
        T value = own_value(p, row, i, j, c, scale[c], shift[c]);
        // The last row of an unmixed batch may have no partner.
        if (own_weight != T(1)) {
          value = own_weight * value + (T(1) - own_weight) * own_value(p, row ^ 1, i, j, c, scale[c], shift[c]);
        }
        p.x[row * image + at] = value;
      }
    }
  }
}

template <class T>
void write_targets(const ImageMix<T>& p, std::int64_t row, const MixGroup& mix) {
  T* targets = p.targets + row * p.classes;
  for (std::int64_t c = 0; c < p.classes; ++c) targets[c] = static_cast<T>(p.label_smoothing / p.classes);
  const double on = 1 - p.label_smoothing;
  targets[p.labels[row]] += static_cast<T>(on * mix.target_weight);
  if (mix.target_weight != 1) targets[p.labels[row ^ 1]] += static_cast<T>(on * (1 - mix.target_weight));
}

}  // namespace

template <class T>
void image_mix(const ImageMix<T>& p) {
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < p.batch; ++row) {
    const MixGroup mix = p.groups ? p.groups[(p.record->first_position + row) / p.mix_group] : MixGroup{};
    write_pixels(p, row, mix);
    if (p.targets) write_targets(p, row, mix);
  }
}

QM_INSTANTIATE_CPU(image_mix, ImageMix)

}  // namespace qm::cpu
