// Generated images for the quickstart and for tests: where to look matters.
//
// Each is 64×64 and shows one small glyph, the class: a disc filled with one of ten black-and-white patterns, lying
// anywhere inside the image, on a background of oriented colour gratings, noise and a few strokes. Position, size, tilt,
// phase, polarity and background are random and the patterns average to grey, so that no pixel, nor any weighted sum of
// pixels, tells the class; a model that looks at the glyph sees it plainly.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/image.h"

namespace qm {

inline constexpr std::int64_t kGlyphImageSize = 64;

/// Names of the classes, sorted: a class's label is its place here.
std::span<const std::string_view> glyph_classes();

/// The square around a glyph, in pixels.
struct GlyphBox {
  std::int64_t top = 0, left = 0, height = 0, width = 0;
};

struct GlyphImage {
  Image image;
  GlyphBox box;
};

/// Image number `index` of a split: its class is index mod 10, everything else is drawn from (seed, split, index).
GlyphImage draw_glyph(std::uint64_t seed, std::string_view split, std::uint32_t index);

/// Writes images 0 … count − 1 of a split as `folder/<split>/<class>/<index>.jpg`, and beside the classes `boxes.csv`
/// with one line "class/file.jpg,top,left,height,width" an image under a header line. Same arguments, same bytes.
/// The split's folder appears when it is complete, never in part.
/// Throws IoError (a folder that exists or cannot be written), ConfigError (a count that is not positive).
void write_glyphs(const std::string& folder, const std::string& split, std::int64_t count, std::uint64_t seed);

struct GlyphLocation {
  std::string file;  ///< relative to the split's folder: "class/file.jpg"
  GlyphBox box;
};

/// The rows of `folder/boxes.csv`, folder being that of a split. Throws IoError naming file and line.
std::vector<GlyphLocation> read_glyph_locations(const std::string& folder);

}  // namespace qm
