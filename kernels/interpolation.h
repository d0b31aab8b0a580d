// Which filter brings an image to other places or another size.
#pragma once

namespace qm {

enum class Interpolation { kBilinear, kBicubic };

}  // namespace qm
