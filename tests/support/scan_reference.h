// The cores of MODEL.md written the long way, as sums over explicit lists of tokens: what quad_scan and cross_scan must
// compute. Nothing here is shared with the kernels.
#pragma once

#include <cmath>
#include <vector>

#include "autograd/ops/core_scan.h"
#include "autograd/ops/quad_scan.h"
#include "tests/support/tensors.h"

namespace qm {

using Rows = std::vector<std::vector<double>>;

/// Direction k of a core's scan over a sequence: u (L rows of D), projection (L rows of R + 2N) → y (L rows of D).
inline Rows reference_scan(const Rows& u, const Rows& projection, const CoreScanWeights& weights, std::int64_t k) {
  const std::int64_t channels = weights.dt_projs_weight.dim(1), rank = weights.dt_projs_weight.dim(2);
  const std::int64_t states = weights.A_logs.dim(1);
  Rows y(u.size(), std::vector<double>(static_cast<std::size_t>(channels)));
  for (std::int64_t d = 0; d < channels; ++d) {
    const std::int64_t row = k * channels + d;
    std::vector<double> h(static_cast<std::size_t>(states));
    for (std::size_t l = 0; l < u.size(); ++l) {
      double delta = weights.dt_projs_bias.data<double>()[row];
      for (std::int64_t r = 0; r < rank; ++r) {
        delta += weights.dt_projs_weight.data<double>()[row * rank + r] * projection[l][r];
      }
      if (delta <= 20) delta = std::log(1 + std::exp(delta));
      y[l][d] = weights.Ds.data<double>()[row] * u[l][d];
      for (std::int64_t n = 0; n < states; ++n) {
        const double A = -std::exp(weights.A_logs.data<double>()[row * states + n]);
        h[n] = std::exp(delta * A) * h[n] + delta * projection[l][rank + n] * u[l][d];
        y[l][d] += projection[l][rank + states + n] * h[n];
      }
    }
  }
  return y;
}

/// The tokens of image b of a map or projection (B, H, W, width), columns [first, first + count) of each.
inline Rows token_rows(const Tensor& map, std::int64_t b, std::int64_t first, std::int64_t count) {
  const std::int64_t tokens = map.dim(1) * map.dim(2), width = map.dim(3);
  Rows rows;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const double* row = map.data<double>() + (b * tokens + t) * width + first;
    rows.emplace_back(row, row + count);
  }
  return rows;
}

/// Numbers of one direction in a token's projection: R + 2N.
inline std::int64_t projection_width(const CoreScanWeights& weights) {
  return weights.dt_projs_weight.dim(2) + 2 * weights.A_logs.dim(1);
}

// ---- quadtree -------------------------------------------------------------------------------------------------------

struct Place {
  std::int64_t i, j;
};

/// Adds the places of rows [top, bottom) × columns [left, right) in raster order.
inline void append_window(std::vector<Place>& places, std::int64_t top, std::int64_t bottom, std::int64_t left,
                          std::int64_t right) {
  for (std::int64_t i = top; i < bottom; ++i) {
    for (std::int64_t j = left; j < right; ++j) places.push_back({i, j});
  }
}

/// The places of the rolled map in coarse order: quadrant after quadrant.
inline std::vector<Place> coarse_places(std::int64_t height, std::int64_t width) {
  const std::int64_t h = height / 2, w = width / 2;
  std::vector<Place> places;
  append_window(places, 0, h, 0, w);
  append_window(places, 0, h, w, width);
  append_window(places, h, height, 0, w);
  append_window(places, h, height, w, width);
  return places;
}

/// The same in fine order: sub-windows within quadrants, or sub-windows in raster order.
inline std::vector<Place> fine_places(std::int64_t height, std::int64_t width, FineOrder order) {
  const std::int64_t h = height / 4, w = width / 4;
  std::vector<Place> places;
  const auto append = [&](std::int64_t i, std::int64_t j) {
    append_window(places, i * h, (i + 1) * h, j * w, (j + 1) * w);
  };
  if (order == FineOrder::kWindowRaster) {
    for (std::int64_t i = 0; i < 4; ++i) {
      for (std::int64_t j = 0; j < 4; ++j) append(i, j);
    }
    return places;
  }
  for (const Place quadrant : {Place{0, 0}, Place{0, 2}, Place{2, 0}, Place{2, 2}}) {
    for (const Place sub : {Place{0, 0}, Place{0, 1}, Place{1, 0}, Place{1, 1}}) {
      append(quadrant.i + sub.i, quadrant.j + sub.j);
    }
  }
  return places;
}

/// MODEL.md's quadtree scan with a real-valued m (B, 4) in place of the one-hot: every token contributes to both of its
/// positions, weighted. z (B, out_height, out_width, D).
inline Tensor reference_quad_scan(const Tensor& x, const Tensor& projection, const Tensor& m,
                                  const CoreScanWeights& weights, const QuadScanGeometry& geometry) {
  const std::int64_t batch = x.dim(0), height = x.dim(1), width = x.dim(2), channels = x.dim(3);
  const std::int64_t length = height * width, per_direction = projection_width(weights);
  const auto coarse = coarse_places(height, width), fine = fine_places(height, width, geometry.fine_order);
  const auto quadrant = [&](Place p) { return (p.i >= height / 2) * 2 + (p.j >= width / 2); };
  // A roll by r moves what lies at i to (i + r) mod height; this asks the other way round.
  const auto memory_row = [&](Place p) { return (p.i - geometry.roll_h + 8 * height) % height; };
  const auto memory_column = [&](Place p) { return (p.j - geometry.roll_w + 8 * width) % width; };
  const auto memory_index = [&](Place p) { return memory_row(p) * width + memory_column(p); };

  const Tensor z = filled({batch, geometry.out_height, geometry.out_width, channels}, 0);
  for (std::int64_t b = 0; b < batch; ++b) {
    const double* one_hot = m.data<double>() + b * 4;
    const auto fine_weight = [&](Place p) { return one_hot[quadrant(p)]; };
    const auto partition = [&](const Rows& tokens) {
      Rows sequence(static_cast<std::size_t>(length), std::vector<double>(tokens[0].size()));
      for (std::int64_t p = 0; p < length; ++p) {
        for (std::size_t c = 0; c < tokens[0].size(); ++c) {
          sequence[p][c] = fine_weight(fine[p]) * tokens[memory_index(fine[p])][c] +
                           (1 - fine_weight(coarse[p])) * tokens[memory_index(coarse[p])][c];
        }
      }
      return sequence;
    };
    const Rows u = partition(token_rows(x, b, 0, channels));
    const Rows forwards = reference_scan(u, partition(token_rows(projection, b, 0, per_direction)), weights, 0);
    const Rows reversed_projection = partition(token_rows(projection, b, per_direction, per_direction));
    const Rows backwards = reference_scan(Rows(u.rbegin(), u.rend()),
                                          Rows(reversed_projection.rbegin(), reversed_projection.rend()), weights, 1);

    const auto merge = [&](Place place, std::int64_t position, double weight) {
      const std::int64_t i = memory_row(place), j = memory_column(place);
      if (i >= geometry.out_height || j >= geometry.out_width) return;
      double* token = z.data<double>() + ((b * geometry.out_height + i) * geometry.out_width + j) * channels;
      for (std::int64_t d = 0; d < channels; ++d) {
        token[d] += weight * (forwards[position][d] + backwards[length - 1 - position][d]);
      }
    };
    for (std::int64_t p = 0; p < length; ++p) {
      merge(fine[p], p, fine_weight(fine[p]));
      merge(coarse[p], p, 1 - fine_weight(coarse[p]));
    }
  }
  return z;
}

// ---- cross ----------------------------------------------------------------------------------------------------------

/// MODEL.md's cross scan: row-major, column-major, and both reversed.
inline Tensor reference_cross_scan(const Tensor& x, const Tensor& projection, const CoreScanWeights& weights) {
  const std::int64_t height = x.dim(1), width = x.dim(2), channels = x.dim(3);
  std::vector<std::vector<std::int64_t>> orders(4);
  for (std::int64_t i = 0; i < height; ++i) {
    for (std::int64_t j = 0; j < width; ++j) orders[0].push_back(i * width + j);
  }
  for (std::int64_t j = 0; j < width; ++j) {
    for (std::int64_t i = 0; i < height; ++i) orders[1].push_back(i * width + j);
  }
  orders[2].assign(orders[0].rbegin(), orders[0].rend());
  orders[3].assign(orders[1].rbegin(), orders[1].rend());

  const Tensor z = filled(x.shape(), 0);
  const std::int64_t per_direction = projection_width(weights);
  for (std::int64_t b = 0; b < x.dim(0); ++b) {
    const Rows tokens = token_rows(x, b, 0, channels);
    for (std::int64_t k = 0; k < 4; ++k) {
      const Rows projections = token_rows(projection, b, k * per_direction, per_direction);
      Rows u, projected;
      for (const auto token : orders[k]) {
        u.push_back(tokens[token]);
        projected.push_back(projections[token]);
      }
      const Rows y = reference_scan(u, projected, weights, k);
      for (std::size_t l = 0; l < y.size(); ++l) {
        double* out = z.data<double>() + (b * height * width + orders[k][l]) * channels;
        for (std::int64_t d = 0; d < channels; ++d) out[d] += y[l][d];
      }
    }
  }
  return z;
}

}  // namespace qm
