// The one thing that pack may want from a photograph's EXIF: which way up it is.
#pragma once

#include <cstdint>
#include <span>

#include "data/image.h"

namespace qm {

/// The EXIF orientation of a JPEG or PNG, 1 (upright) to 8; 1 where there is none or it makes no sense. Never throws.
int exif_orientation(std::span<const std::uint8_t> encoded);

/// The image turned and mirrored to be upright, as PIL's ImageOps.exif_transpose does.
Image upright(const Image& image, int orientation);

}  // namespace qm
