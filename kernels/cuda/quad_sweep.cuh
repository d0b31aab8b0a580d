// quad_scan by sweeps (kernels/cuda/core_sweep.cuh): bfloat16, one state.
//
// In the quadtree order, without padding, every position holds one token. Else some hold two, some none: what belongs
// to no token is kept beside z, since the merge's gradient compares it with others.
#pragma once

#include "kernels/cuda/core_sweep_backward.cuh"
#include "kernels/cuda/core_sweep_forward.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/quad_scan.h"

namespace qm::cuda {

inline bool is_plain(const QuadScanShape& s) {
  return s.order.fine_order == FineOrder::kQuadtree && s.out_height == s.order.height && s.out_width == s.order.width;
}

// ---- the order ------------------------------------------------------------------------------------------------------

// The tokens at every position. A thread a position: selected (batch), first, second (count) = (batch, L).
static __global__ void quad_tokens_kernel(std::int64_t count, QuadOrder order, const std::int32_t* selected, int* first,
                                          int* second) {
  const std::int64_t i = global_thread();
  if (i >= count) return;
  std::int64_t tokens[2] = {-1, -1};
  order.tokens_at(i % order.length(), selected[i / order.length()], tokens);
  first[i] = static_cast<int>(tokens[0]);
  if (second) second[i] = static_cast<int>(tokens[1]);
}

/// The tokens of every position, for the launches of one call.
class QuadTokens {
 public:
  QuadTokens(const Stream& stream, const QuadScanShape& s, const std::int32_t* selected)
      : length_(s.order.length()),
        doubled_(s.order.fine_order != FineOrder::kQuadtree),
        first_(stream, s.batch * length_),
        second_(stream, doubled_ ? s.batch * length_ : 0) {
    const std::int64_t count = s.batch * length_;
    quad_tokens_kernel<<<blocks_for(count), kBlock, 0, native(stream)>>>(count, s.order, selected, first_.data(),
                                                                         doubled_ ? second_.data() : nullptr);
    check_launch("quad_tokens");
  }
  SweepOrder order() const { return {first_.data(), doubled_ ? second_.data() : nullptr, length_}; }

 private:
  std::int64_t length_;
  bool doubled_;
  Scratch<int> first_, second_;
};

template <class Params>
Sweep sweep_of(const Params& p, const SweepOrder& order, float* states) {
  const QuadScanShape& s = p.shape;
  return {.batch = static_cast<int>(s.batch),
          .length = static_cast<int>(s.order.length()),
          .tiles = sweep_tiles(s.order.length()),
          .channels = static_cast<int>(s.scan.channels),
          .rank = static_cast<int>(s.scan.rank),
          .directions = 2,
          .along = {0, 1},
          .order = order,
          .plain = is_plain(s),
          .x = p.x,
          .projection = p.projection,
          .weights = p.weights,
          .states = states,
          .adds = false,
          .warps = 0,
          .width = static_cast<int>(s.order.width),
          .out_height = static_cast<int>(s.out_height),
          .out_width = static_cast<int>(s.out_width)};
}

// ---- the gradient of the one-hot ------------------------------------------------------------------------------------

struct SweepMerge {
  QuadScanBackward<bfloat16> p;
  const int* first;  ///< (batch, L) the token at a position, or −1
  // Where the sweeps have left y, ∂s and ∂ of the projections that belong to no token: (batch, L, …) by position.
  const bfloat16 *spare_y, *spare_grad_s, *spare_grad_projection;
  std::int64_t groups;    ///< of kSweepMergeTokens tokens, an image
  double* quadrant_sums;  ///< (batch, groups, 4)
};

inline constexpr int kSweepMergeTokens = 64;  ///< a block of kBlock threads

/// A row of an image in a map by token, or ~row of its spare map.
using SweepRow = int;

/// What one token goes with: the same of its fine and of its coarse position.
struct SweepMergePlace {
  int token, quadrant;
  int output;  ///< of z, or −1
  SweepRow grad_s[2], y[2];
};

__device__ __forceinline__ SweepMergePlace merge_place(const SweepMerge& m, std::int64_t image, std::int64_t index) {
  const QuadScanShape& s = m.p.shape;
  const int width = static_cast<int>(s.order.width);
  const auto output_of = [&](int token) {
    const int row = token / width, column = token % width;
    return row < s.out_height && column < s.out_width ? static_cast<int>(row * s.out_width + column) : -1;
  };
  const QuadOrder::Token token{index / width, index % width};
  const int address = static_cast<int>(s.order.address(token));
  SweepMergePlace place{
      .token = address, .quadrant = s.order.quadrant(token), .output = output_of(address), .grad_s = {}, .y = {}};
  const std::int64_t positions[2] = {s.order.fine_position(token), s.order.coarse_position(token)};
  for (int i = 0; i < 2; ++i) {
    const int position = static_cast<int>(positions[i]), first = m.first[image * s.order.length() + position];
    const int output = first >= 0 ? output_of(first) : -1;
    place.grad_s[i] = first >= 0 ? first : ~position;
    place.y[i] = output >= 0 ? output : ~position;
  }
  return place;
}

/// Of an image's maps with `width` numbers a row.
struct SweepRowsOfImage {
  const bfloat16 *map, *spare;
  int width;

  __device__ __forceinline__ const bfloat16* at(SweepRow row, int column) const {
    return (row >= 0 ? map : spare) + static_cast<std::int64_t>(row >= 0 ? row : ~row) * width + column;
  }
};

/// ⟨v, fine − coarse⟩ of a chunk. v is read this once: it makes way in the caches for rows that are read again.
__device__ __forceinline__ float compare_chunks(const bfloat16* v, const bfloat16* fine, const bfloat16* coarse) {
  const uint4 chunk = __ldcs(reinterpret_cast<const uint4*>(v));
  float a[kChunk], b[kChunk], c[kChunk], sum = 0;
  load_vector(reinterpret_cast<const bfloat16*>(&chunk), a);
  load_vector(fine, b);
  load_vector(coarse, c);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) sum += a[i] * (b[i] - c[i]);
  return sum;
}

// A group's terms of grad_one_hot. Grid (batch · groups), block (kBlock): a thread a chunk of a token at a time.
//   as in SweepMerge; quadrant_sums in double, since terms of either sign nearly cancel
static __global__ void __launch_bounds__(kBlock) sweep_merge_kernel(const __grid_constant__ SweepMerge m) {
  __shared__ SweepMergePlace places[kSweepMergeTokens];
  __shared__ double warp_sums[kBlock / kWarp][4];
  const QuadScanShape& s = m.p.shape;
  const int channels = static_cast<int>(s.scan.channels), chunks = channels / kChunk;
  const int projections = static_cast<int>(s.scan.directions * s.scan.projection());
  const std::int64_t image = blockIdx.x / m.groups, first = blockIdx.x % m.groups * kSweepMergeTokens;
  const int tokens = static_cast<int>(min(s.order.length() - first, std::int64_t{kSweepMergeTokens}));
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < tokens) places[thread] = merge_place(m, image, first + thread);
  __syncthreads();

  double sums[4] = {};
  const auto add = [&](int quadrant, float sum) {
#pragma unroll
    for (int q = 0; q < 4; ++q) sums[q] += q == quadrant ? sum : 0.0f;
  };
  const std::int64_t rows = image * s.order.length(), outputs = image * s.out_height * s.out_width;
  const SweepRowsOfImage grad_s{m.p.grad_x + rows * channels, m.spare_grad_s + rows * channels, channels};
  const SweepRowsOfImage y{m.p.z + outputs * channels, m.spare_y + rows * channels, channels};
  const SweepRowsOfImage grad_q{m.p.grad_projection + rows * projections, m.spare_grad_projection + rows * projections,
                                projections};
#pragma unroll 2
  for (int item = thread; item < tokens * chunks; item += kBlock) {
    const SweepMergePlace& place = places[item / chunks];
    const int column = item % chunks * kChunk;
    const bfloat16* x = m.p.x + (rows + place.token) * channels + column;
    float sum = compare_chunks(x, grad_s.at(place.grad_s[0], column), grad_s.at(place.grad_s[1], column));
    if (place.output >= 0) {
      const bfloat16* grad_z = m.p.grad_z + (outputs + place.output) * channels + column;
      sum += compare_chunks(grad_z, y.at(place.y[0], column), y.at(place.y[1], column));
    }
    add(place.quadrant, sum);
  }
  for (int item = thread; item < tokens * projections; item += kBlock) {
    const SweepMergePlace& place = places[item / projections];
    const int column = item % projections;
    add(place.quadrant,
        to_real(m.p.projection[(rows + place.token) * projections + column]) *
            (to_real(*grad_q.at(place.grad_s[0], column)) - to_real(*grad_q.at(place.grad_s[1], column))));
  }

#pragma unroll
  for (int q = 0; q < 4; ++q) {
    const double sum = warp_sum(sums[q]);
    if (lane_index() == 0) warp_sums[warp_index()][q] = sum;
  }
  __syncthreads();
  if (thread < 4) {
    double sum = 0;
    for (int warp = 0; warp < kBlock / kWarp; ++warp) sum += warp_sums[warp][thread];
    m.quadrant_sums[blockIdx.x * std::int64_t{4} + thread] = sum;
  }
}

// ---- launchers ------------------------------------------------------------------------------------------------------

inline void quad_sweep_forward(const Stream& stream, const QuadScanForward<bfloat16>& p) {
  const QuadTokens tokens(stream, p.shape, p.selected);
  sweep_forward<true>(stream, {sweep_of(p, tokens.order(), p.states), p.z, p.y});
}

/// `sum_one_hot(groups, quadrant_sums)` ends the sums of the groups.
template <class SumOneHot>
void quad_sweep_backward(const Stream& stream, const QuadScanBackward<bfloat16>& p, SumOneHot sum_one_hot) {
  const QuadScanShape& s = p.shape;
  const QuadTokens tokens(stream, s, p.selected);
  const std::int64_t rows = is_plain(s) ? 0 : s.batch * s.order.length();
  const Scratch<bfloat16> spare_grad_s(stream, rows * s.scan.channels);
  const Scratch<bfloat16> spare_grad_projection(stream, rows * s.scan.directions * s.scan.projection());
  sweep_backward<true>(stream, s.scan, 1, p.grad_z,
                       {p.grad_x, p.grad_projection, spare_grad_s.data(), spare_grad_projection.data()}, p.grad_weights,
                       [&](int) { return sweep_of(p, tokens.order(), const_cast<float*>(p.states)); });

  const std::int64_t groups = ceil_div(s.order.length(), kSweepMergeTokens), blocks = s.batch * groups;
  const Scratch<double> quadrant_sums(stream, blocks * 4);
  sweep_merge_kernel<<<blocks_for(blocks, 1), kBlock, 0, native(stream)>>>(
      {p, tokens.order().first, p.y, spare_grad_s.data(), spare_grad_projection.data(), groups, quadrant_sums.data()});
  check_launch("sweep_merge");
  sum_one_hot(groups, quadrant_sums.data());
}

}  // namespace qm::cuda
