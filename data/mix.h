// What mixup and cutmix do to a group of samples in a step (timm's rules, one draw a group).
#pragma once

#include <array>
#include <cstdint>

#include "kernels/base/step_record.h"

namespace qm {

struct MixConfig {
  double mixup = 0;                 ///< α of mixup's Beta distribution; 0 = off
  double cutmix = 0;                ///< α of cutmix's; 0 = off
  double probability = 1;           ///< that a group is mixed at all
  double switch_probability = 0.5;  ///< that a mixed group takes cutmix where both are on
  /// Least and greatest side of cutmix's box as a share of the image's side, in place of λ; [0, 0] = by λ. Turns cutmix
  /// on.
  std::array<double, 2> cutmix_minmax{};
};

/// Draws λ ~ Beta(α, α) and, for cutmix, the box, for images of height × width:
///
/// - mixup: pixel_weight = target_weight = λ, no box.
/// - cutmix: sides ⌊height·√(1−λ)⌋ and ⌊width·√(1−λ)⌋ around a uniform centre, clipped to the image; pixel_weight = 1,
///   target_weight = 1 − box area / image area.
/// - cutmix with minmax: sides uniform in [⌊height·min⌋, ⌊height·max⌋) and [⌊width·min⌋, ⌊width·max⌋), a uniform place
///   where the box is whole and ends before the last row and column (as in timm, whose bounds are exclusive).
/// - neither: the default MixGroup, which leaves the samples as they are.
///
/// A function of (seed, step, group) alone: `group` is position in the global batch / group size, so the result does
/// not depend on ranks or accumulation.
MixGroup draw_mix(const MixConfig& config, std::uint64_t seed, std::uint32_t step, std::uint32_t group,
                  std::int64_t height, std::int64_t width);

}  // namespace qm
