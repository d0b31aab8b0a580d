// The network's random numbers: drop path and Gumbel noise as functions of (seed, purpose, site, step, position in the
// global batch), computed where they are used and never stored.
#pragma once

#include <cmath>

#include "kernels/base/philox.h"
#include "kernels/base/step_record.h"

namespace qm {

/// What a sample's branch is multiplied with: 0 with probability `rate`, else 1 / (1 − rate). `site` tells the branches
/// of the network apart. Without a record (evaluation) nothing is dropped.
QM_HOST_DEVICE float drop_path_scale(const StepRecord* record, std::uint32_t site, float rate, std::uint32_t row) {
  if (record == nullptr || rate <= 0.0f) return 1.0f;
  const PhiloxBlock random =
      philox(record->seed, RandomPurpose::kDropPath, record->step, site, record->first_position + row);
  return uniform_open(random.word[0]) < rate ? 0.0f : 1.0f / (1.0f - rate);
}

/// Four independent Gumbel(0, 1) numbers −ln(−ln U), one a quadrant.
QM_HOST_DEVICE void gumbel_noise(const StepRecord& record, std::uint32_t site, std::uint32_t row, float noise[4]) {
  const PhiloxBlock random =
      philox(record.seed, RandomPurpose::kGumbel, record.step, site, record.first_position + row);
  for (int i = 0; i < 4; ++i) noise[i] = -logf(-logf(uniform_open(random.word[i])));
}

}  // namespace qm
