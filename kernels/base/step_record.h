// What varies from step to step, in one plain structure that lives in device memory.
//
// Kernels read it through a pointer, so no kernel argument changes between steps and a whole step can be captured as a
// CUDA graph. The trainer writes one record a micro-batch before the step's first kernel.
#pragma once

#include <cstdint>

namespace qm {

struct StepRecord {
  std::uint64_t seed = 0;            ///< key of all network noise
  std::uint32_t step = 0;            ///< optimizer step, counted from 0
  std::uint32_t first_position = 0;  ///< place of this micro-batch's row 0 in the global batch
  double learning_rate = 0;          ///< of this step
  double bias_correction1 = 1;       ///< 1 − β₁^(step+1)
  double bias_correction2 = 1;       ///< 1 − β₂^(step+1)
  double ema_decay = 0;
};

/// Mixup or cutmix of one group of `mix_group` consecutive positions of the global batch; a row's partner is the row at
/// position XOR 1. Pixels inside the box [top, bottom) × [left, right) come from the partner; all others are
/// pixel_weight · own + (1 − pixel_weight) · partner. Targets are target_weight · own + (1 − target_weight) · partner.
/// The default leaves both as they are.
struct MixGroup {
  double pixel_weight = 1;
  double target_weight = 1;
  std::int32_t top = 0, bottom = 0, left = 0, right = 0;
};

}  // namespace qm
