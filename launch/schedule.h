// Learning rate of a step: linear warm-up, then cosine.
#pragma once

#include <cstdint>

namespace qm {

struct Schedule {
  double first = 0;                ///< rate of step 0 where there is a warm-up
  double peak = 0;                 ///< rate at the end of the warm-up
  double last = 0;                 ///< what the cosine falls to at total_steps
  std::int64_t warmup_steps = 0;
  std::int64_t total_steps = 0;

  /// first + (peak − first) · s / warmup_steps for s < warmup_steps, then
  /// last + (peak − last) · (1 + cos(π (s − warmup_steps) / (total_steps − warmup_steps))) / 2.
  double learning_rate(std::int64_t step) const;
};

}  // namespace qm
