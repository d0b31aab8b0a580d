// From decoded images to the network's input and soft targets (kernels/image_mix.h). No gradient.
#pragma once

#include <array>

#include "autograd/tensor.h"
#include "kernels/base/step_record.h"
#include "kernels/erased_box.h"

namespace qm {

struct ImageNormalization {
  std::array<double, 3> mean, std;  ///< of pixels in [0, 1]
};

/// images (B, H, W, 3) uint8 → (B, H, W, 3) of `dtype`, normalised.
Tensor normalize_images(const Tensor& images, const ImageNormalization& normalization, DType dtype);

struct MixedBatch {
  Tensor x;        ///< (B, H, W, 3)
  Tensor targets;  ///< (B, classes)
};

struct MixSettings {
  ImageNormalization normalization;
  double label_smoothing = 0;
  std::int64_t classes = 0;
  std::int64_t group = 0;             ///< positions a mix group: 1 or an even number
  const MixGroup* groups = nullptr;   ///< of the whole global batch, device memory; null = no mixing
  const StepRecord* record = nullptr; ///< device memory; needed with groups
  Tensor erased{};                    ///< ErasedBox, uint8 (B, boxes · sizeof) where the images are; undefined = none
};

/// images (B, H, W, 3) uint8, labels (B) int32 → erased, mixed, normalised images and soft targets of `dtype`.
MixedBatch mix_images(const Tensor& images, const Tensor& labels, const MixSettings& settings, DType dtype);

}  // namespace qm
