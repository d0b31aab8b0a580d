// quad_scan by sweeps (kernels/cuda/core_sweep.cuh): bfloat16, one state.
//
// In the quadtree order, without padding, every position holds one token: results then lie by token, z is all that the
// forward pass has to keep, and the scan's gradients are the op's. Else they lie by position, and are gathered by
// token.
#pragma once

#include "kernels/cuda/core_sweep_backward.cuh"
#include "kernels/cuda/core_sweep_forward.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/quad_scan.h"

namespace qm::cuda {

inline bool lies_by_token(const QuadScanShape& s) {
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
  return {.batch = s.batch,
          .length = static_cast<int>(s.order.length()),
          .tiles = sweep_tiles(s.order.length()),
          .channels = static_cast<int>(s.scan.channels),
          .rank = static_cast<int>(s.scan.rank),
          .directions = 2,
          .along = {0, 1},
          .order = order,
          .x = p.x,
          .projection = p.projection,
          .weights = p.weights,
          .states = states,
          .by_token = lies_by_token(s),
          .adds = false,
          .warps = 0,
          .width = static_cast<int>(s.order.width),
          .out_height = static_cast<int>(s.out_height),
          .out_width = static_cast<int>(s.out_width)};
}

// ---- gradients by token ---------------------------------------------------------------------------------------------

struct SweepMerge {
  QuadScanBackward<bfloat16> p;
  const int* first;        ///< (batch, L) the token at a position; null where rows are positions
  const bfloat16* y;       ///< (batch, rows, D)
  const bfloat16* grad_s;  ///< (batch, rows, D)
  const bfloat16* grad_q;  ///< (batch, rows, K, R + 2)
  std::int64_t groups;     ///< of kSweepMergeTokens tokens, an image
  double* quadrant_sums;   ///< (batch, groups, 4)
};

inline constexpr int kSweepMergeTokens = 64;  ///< a block of kBlock threads

/// Rows of an image that one of its tokens goes with.
struct SweepMergePlace {
  int token, fine, coarse, taken;  ///< of x, and of what lies by position or by token
  int output;                      ///< of z, or −1
  int quadrant;
};

__device__ __forceinline__ SweepMergePlace merge_place(const SweepMerge& m, std::int64_t image, std::int64_t index) {
  const QuadScanShape& s = m.p.shape;
  const QuadOrder::Token token{index / s.order.width, index % s.order.width};
  const std::int64_t address = s.order.address(token), front = image * s.order.length();
  const std::int64_t row = address / s.order.width, column = address % s.order.width;
  const int quadrant = s.order.quadrant(token);
  int fine = static_cast<int>(s.order.fine_position(token)), coarse = static_cast<int>(s.order.coarse_position(token));
  if (m.first) {
    fine = m.first[front + fine];
    coarse = m.first[front + coarse];
  }
  const bool in_output = row < s.out_height && column < s.out_width;
  return {.token = static_cast<int>(address),
          .fine = fine,
          .coarse = coarse,
          .taken = quadrant == m.p.selected[image] ? fine : coarse,
          .output = in_output ? static_cast<int>(row * s.out_width + column) : -1,
          .quadrant = quadrant};
}

/// ⟨v, fine − coarse⟩ of a chunk.
__device__ __forceinline__ float compare_chunks(const bfloat16* v, const bfloat16* fine, const bfloat16* coarse) {
  float a[kChunk], b[kChunk], c[kChunk], sum = 0;
  load_vector(v, a);
  load_vector(fine, b);
  load_vector(coarse, c);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) sum += a[i] * (b[i] - c[i]);
  return sum;
}

// A group's terms of grad_one_hot, and, where rows are positions, grad_x and grad_projection.
// Grid (batch · groups), block (kBlock): a thread a chunk of a token at a time.
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
  const std::int64_t maps = image * s.order.length() * channels;
  const std::int64_t outputs = image * s.out_height * s.out_width * channels;
  for (int item = thread; item < tokens * chunks; item += kBlock) {
    const SweepMergePlace& place = places[item / chunks];
    const int column = item % chunks * kChunk;
    const auto at = [&](int row) { return maps + static_cast<std::int64_t>(row) * channels + column; };
    float sum = compare_chunks(m.p.x + at(place.token), m.grad_s + at(place.fine), m.grad_s + at(place.coarse));
    if (place.output >= 0) {
      const std::int64_t output = outputs + static_cast<std::int64_t>(place.output) * channels + column;
      sum += compare_chunks(m.p.grad_z + output, m.y + at(place.fine), m.y + at(place.coarse));
    }
    add(place.quadrant, sum);
    if (m.first) continue;
    *reinterpret_cast<uint4*>(m.p.grad_x + at(place.token)) =
        *reinterpret_cast<const uint4*>(m.grad_s + at(place.taken));
  }
  const std::int64_t rows = image * s.order.length() * projections;
  for (int item = thread; item < tokens * projections; item += kBlock) {
    const SweepMergePlace& place = places[item / projections];
    const auto at = [&](int row) { return rows + static_cast<std::int64_t>(row) * projections + item % projections; };
    add(place.quadrant, to_real(m.p.projection[at(place.token)]) *
                            (to_real(m.grad_q[at(place.fine)]) - to_real(m.grad_q[at(place.coarse)])));
    if (!m.first) m.p.grad_projection[at(place.token)] = m.grad_q[at(place.taken)];
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
  const bool by_token = lies_by_token(p.shape);
  sweep_forward<true>(stream, {sweep_of(p, tokens.order(), p.states), by_token ? p.z : p.y, by_token ? nullptr : p.z});
}

/// `sum_one_hot(groups, quadrant_sums)` ends the sums of the groups.
template <class SumOneHot>
void quad_sweep_backward(const Stream& stream, const QuadScanBackward<bfloat16>& p, SumOneHot sum_one_hot) {
  const QuadScanShape& s = p.shape;
  const QuadTokens tokens(stream, s, p.selected);
  const bool by_token = lies_by_token(s);
  const std::int64_t rows = s.batch * s.order.length(), projections = s.scan.directions * s.scan.projection();
  const Scratch<bfloat16> grad_s(stream, by_token ? 0 : rows * s.scan.channels);
  const Scratch<bfloat16> grad_q(stream, by_token ? 0 : rows * projections);
  bfloat16* to_s = by_token ? p.grad_x : grad_s.data();
  bfloat16* to_q = by_token ? p.grad_projection : grad_q.data();
  sweep_backward<true>(stream, s.scan, 1, p.grad_z, to_s, to_q, p.grad_weights,
                       [&](int) { return sweep_of(p, tokens.order(), const_cast<float*>(p.states)); });

  const std::int64_t groups = ceil_div(s.order.length(), kSweepMergeTokens), blocks = s.batch * groups;
  const Scratch<double> quadrant_sums(stream, blocks * 4);
  sweep_merge_kernel<<<blocks_for(blocks, 1), kBlock, 0, native(stream)>>>(
      {p, by_token ? tokens.order().first : nullptr, by_token ? p.z : p.y, to_s, to_q, groups, quadrant_sums.data()});
  check_launch("sweep_merge");
  sum_one_hot(groups, quadrant_sums.data());
}

}  // namespace qm::cuda
