#include "launch/schedule.h"

#include <cmath>
#include <numbers>

namespace qm {

double Schedule::learning_rate(std::int64_t step) const {
  if (step < warmup_steps) {
    return first + (peak - first) * static_cast<double>(step) / static_cast<double>(warmup_steps);
  }
  if (total_steps <= warmup_steps) return peak;
  const double progress =
      static_cast<double>(step - warmup_steps) / static_cast<double>(total_steps - warmup_steps);
  return last + (peak - last) * (1 + std::cos(std::numbers::pi * progress)) / 2;
}

}  // namespace qm
