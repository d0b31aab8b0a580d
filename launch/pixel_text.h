// Words on images, in a 5×7 font: letters (capitals only), digits and - _ . + %.
#pragma once

#include <cstdint>
#include <string_view>

#include "data/image.h"

namespace qm {

inline constexpr std::int64_t kTextHeight = 7, kTextAdvance = 6;  ///< pixels; between one character and the next

/// Writes `text` in white with its upper left corner at (top, left); what does not fit into the image is cut off, what
/// the font lacks is a '?'.
void draw_text(Image& image, std::int64_t top, std::int64_t left, std::string_view text);

}  // namespace qm
