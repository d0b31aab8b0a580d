// The quadtree's token orders as index functions (MODEL.md, "Quadtree scan", steps 4 and 5).
//
// A map of height × width tokens (both multiples of 4) is rolled by (roll_h, roll_w) and cut into four quadrants. A
// token (i, j) below is a place in the *rolled* map; `address` is where its value lies in memory. Each token has a coarse
// and a fine position in the sequence; tokens of the selected quadrant take the fine one, all others the coarse one:
//
//   coarse          the quadrants one after another, row-major inside each
//   fine, quadtree  the quadrants one after another, in each its four sub-quadrants one after another, row-major inside
//   fine, window_raster   the 4×4 grid of sub-windows in raster order, row-major inside each (the released code's; its
//                   positions collide with coarse ones, so a sequence position may hold two tokens or none)
#pragma once

#include <cstdint>

#include "kernels/base/host_device.h"

namespace qm {

enum class FineOrder : int { kQuadtree, kWindowRaster };

struct QuadOrder {
  std::int64_t height, width;    ///< of the padded map; multiples of 4
  std::int64_t roll_h, roll_w;   ///< positive moves tokens towards larger indices, wrapping
  FineOrder fine_order;

  struct Token {
    std::int64_t i, j;
  };

  QM_HOST_DEVICE std::int64_t length() const { return height * width; }

  QM_HOST_DEVICE int quadrant(Token t) const { return (t.i >= height / 2 ? 2 : 0) + (t.j >= width / 2 ? 1 : 0); }

  /// Row-major index in memory of the token that the roll brings to t.
  QM_HOST_DEVICE std::int64_t address(Token t) const {
    const std::int64_t i = (t.i - roll_h % height + height) % height;
    const std::int64_t j = (t.j - roll_w % width + width) % width;
    return i * width + j;
  }

  QM_HOST_DEVICE std::int64_t coarse_position(Token t) const {
    const std::int64_t h = height / 2, w = width / 2;
    return quadrant(t) * (h * w) + (t.i % h) * w + t.j % w;
  }

  QM_HOST_DEVICE Token coarse_token(std::int64_t position) const {
    const std::int64_t h = height / 2, w = width / 2;
    const std::int64_t q = position / (h * w), inside = position % (h * w);
    return {q / 2 * h + inside / w, q % 2 * w + inside % w};
  }

  QM_HOST_DEVICE std::int64_t fine_position(Token t) const {
    const std::int64_t h = height / 4, w = width / 4;
    const std::int64_t window_i = t.i / h, window_j = t.j / w;
    const std::int64_t window = fine_order == FineOrder::kWindowRaster
                                    ? window_i * 4 + window_j
                                    : (window_i / 2 * 2 + window_j / 2) * 4 + window_i % 2 * 2 + window_j % 2;
    return window * (h * w) + (t.i % h) * w + t.j % w;
  }

  QM_HOST_DEVICE Token fine_token(std::int64_t position) const {
    const std::int64_t h = height / 4, w = width / 4;
    const std::int64_t window = position / (h * w), inside = position % (h * w);
    std::int64_t window_i = window / 4, window_j = window % 4;
    if (fine_order == FineOrder::kQuadtree) {
      const std::int64_t q = window / 4, sub = window % 4;
      window_i = q / 2 * 2 + sub / 2;
      window_j = q % 2 * 2 + sub % 2;
    }
    return {window_i * h + inside / w, window_j * w + inside % w};
  }

  /// Where token t goes when quadrant `selected` is selected.
  QM_HOST_DEVICE std::int64_t position(Token t, int selected) const {
    return quadrant(t) == selected ? fine_position(t) : coarse_position(t);
  }

  /// The tokens at a sequence position (their addresses); returns how many: 1 in the quadtree order, 0 to 2 in
  /// window_raster.
  QM_HOST_DEVICE int tokens_at(std::int64_t position, int selected, std::int64_t addresses[2]) const {
    int found = 0;
    const Token coarse = coarse_token(position);
    if (quadrant(coarse) != selected) addresses[found++] = address(coarse);
    const Token fine = fine_token(position);
    if (quadrant(fine) == selected) addresses[found++] = address(fine);
    return found;
  }
};

}  // namespace qm
