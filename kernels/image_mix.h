// From decoded images and labels to the network's input: normalise, erase, mixup / cutmix, smoothed soft targets.
//
//   pixel  = (value / 255 − mean_c) / std_c, or inside a box of its row what kernels/erased_box.h says
//   own and partner (row XOR 1) are mixed as kernels/base/step_record.h's MixGroup of the row's group says, where
//   group = (record.first_position + row) / mix_group; without `groups` nothing is mixed
//   target = w · smooth(label) + (1 − w) · smooth(partner's label), smooth(l) = (1 − s) · one_hot(l) + s / classes
//
//   images (batch, height, width, 3) uint8, labels (batch)  →  x (batch, height, width, 3), targets (batch, classes)
// With groups, the batch is even and starts at an even position. With boxes, an image has less than 2²⁴ pixels. No
// gradient.
#pragma once

#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"
#include "kernels/base/step_record.h"
#include "kernels/erased_box.h"

namespace qm {

template <class T>
struct ImageMix {
  std::int64_t batch, height, width, classes;
  const std::uint8_t* images;
  const std::int32_t* labels;
  double mean[3], std[3];
  double label_smoothing;
  const MixGroup* groups;   ///< device memory, of the whole global batch; null = no mixing
  std::int64_t mix_group;     ///< 1 (each row its own) or even
  const ErasedBox* erased;  ///< device memory (batch, boxes); null = no erasing
  std::int64_t boxes;       ///< a row
  const StepRecord* record;
  T* x;
  Real<T>* targets;         ///< null = none wanted
};

template <class T>
void image_mix(const Stream& stream, const ImageMix<T>& p);

namespace cpu {
template <class T>
void image_mix(const ImageMix<T>& p);
}  // namespace cpu

namespace cuda {
template <class T>
void image_mix(const Stream& stream, const ImageMix<T>& p);
}  // namespace cuda

}  // namespace qm
