// quad_scan by sweeps (kernels/cuda/core_sweep.cuh): bfloat16, one state.
//
// In the quadtree order, without padding, every position holds one token. Else some hold two, some none.
#pragma once

#include <optional>

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

// What every position is compared for, likewise.
static __global__ void quad_compared_kernel(std::int64_t count, QuadOrder order, const std::int32_t* selected,
                                            SweepCompared* compared) {
  const std::int64_t i = global_thread();
  if (i >= count) return;
  const std::int64_t position = i % order.length();
  const QuadOrder::Token fine = order.fine_token(position), coarse = order.coarse_token(position);
  const int quadrant = selected[i / order.length()];
  const int fine_quadrant = order.quadrant(fine), coarse_quadrant = order.quadrant(coarse);
  const bool has_fine = fine_quadrant == quadrant, has_coarse = coarse_quadrant != quadrant;
  const auto holds = has_fine ? (has_coarse ? SweepCompared::kBoth : SweepCompared::kFine)
                              : (has_coarse ? SweepCompared::kCoarse : SweepCompared::kNone);
  const std::int64_t other = holds == SweepCompared::kNone   ? -1
                             : holds == SweepCompared::kFine ? order.address(coarse)
                                                             : order.address(fine);
  compared[i] = {static_cast<int>(other), SweepCompared::role_of(holds, fine_quadrant, coarse_quadrant)};
}

/// The tokens of every position, for the launches of one call.
class QuadTokens {
 public:
  QuadTokens(const Stream& stream, const QuadScanShape& s, const std::int32_t* selected, bool compares)
      : length_(s.order.length()),
        doubled_(s.order.fine_order != FineOrder::kQuadtree),
        compares_(compares),
        first_(stream, s.batch * length_),
        second_(stream, doubled_ ? s.batch * length_ : 0),
        compared_(stream, compares_ ? s.batch * length_ : 0) {
    const std::int64_t count = s.batch * length_;
    quad_tokens_kernel<<<blocks_for(count), kBlock, 0, native(stream)>>>(count, s.order, selected, first_.data(),
                                                                         doubled_ ? second_.data() : nullptr);
    check_launch("quad_tokens");
    if (!compares_) return;
    quad_compared_kernel<<<blocks_for(count), kBlock, 0, native(stream)>>>(count, s.order, selected, compared_.data());
    check_launch("quad_compared");
  }
  SweepOrder order() const {
    return {first_.data(), doubled_ ? second_.data() : nullptr, length_, compares_ ? compared_.data() : nullptr};
  }

 private:
  std::int64_t length_;
  bool doubled_, compares_;
  Scratch<int> first_, second_;
  Scratch<SweepCompared> compared_;
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
// Sweeps compare maps; of the projections, whose rows are short, this is left:
//   ⟨projection_t, gq[f(t)] − gq[c(t)]⟩

inline constexpr int kProjectionTokens = 256;  ///< a block of kBlock threads

struct ProjectionComparison {
  QuadScanBackward<bfloat16> p;
  const int* first;                       ///< (batch, L) the token at a position, or −1
  const bfloat16* spare_grad_projection;  ///< (batch, L, K, R + 2) by position: ∂ that belong to no token
  SweepComparisons to;
  std::int64_t first_group;  ///< of an image; a group has kProjectionTokens tokens
};

/// What one token goes with: rows of an image in the map by token, or ~rows of the spare one.
struct ProjectionPlace {
  int token, quadrant, fine, coarse;
};

__device__ __forceinline__ ProjectionPlace projection_place(const ProjectionComparison& m, std::int64_t image,
                                                            std::int64_t index) {
  const QuadOrder& order = m.p.shape.order;
  const QuadOrder::Token token{index / order.width, index % order.width};
  const auto row_of = [&](std::int64_t position) {
    const int first = m.first[image * order.length() + position];
    return first >= 0 ? first : ~static_cast<int>(position);
  };
  return {static_cast<int>(order.address(token)), order.quadrant(token), row_of(order.fine_position(token)),
          row_of(order.coarse_position(token))};
}

// Terms of grad_one_hot of a group's tokens. Grid (batch · groups of an image), block (kBlock): a thread a word, two
// numbers, of a token at a time.
static __global__ void __launch_bounds__(kBlock)
    compare_projections_kernel(const __grid_constant__ ProjectionComparison m) {
  __shared__ ProjectionPlace places[kProjectionTokens];
  __shared__ double warp_sums[kBlock / kWarp][4];
  const QuadScanShape& s = m.p.shape;
  const int words = static_cast<int>(s.scan.directions * s.scan.projection()) / 2;
  const std::int64_t groups = m.to.groups - m.first_group;
  const std::int64_t image = blockIdx.x / groups, group = blockIdx.x % groups, first = group * kProjectionTokens;
  const int tokens = static_cast<int>(min(s.order.length() - first, std::int64_t{kProjectionTokens}));
  for (int i = threadIdx.x; i < tokens; i += kBlock) places[i] = projection_place(m, image, first + i);
  __syncthreads();

  const auto word_of = [&](const bfloat16* map, const bfloat16* spare, int row, int word) {
    const std::int64_t at = image * s.order.length() + (row >= 0 ? row : ~row);
    float two[2];
    load_vector((row >= 0 ? map : spare) + (at * words + word) * 2, two);
    return make_float2(two[0], two[1]);
  };
  double sums[4] = {};
  for (int item = threadIdx.x; item < tokens * words; item += kBlock) {
    const ProjectionPlace& place = places[item / words];
    const int word = item % words;
    const float2 v = word_of(m.p.projection, nullptr, place.token, word);
    const float2 fine = word_of(m.p.grad_projection, m.spare_grad_projection, place.fine, word);
    const float2 coarse = word_of(m.p.grad_projection, m.spare_grad_projection, place.coarse, word);
    const float sum = v.x * (fine.x - coarse.x) + v.y * (fine.y - coarse.y);
#pragma unroll
    for (int q = 0; q < 4; ++q) sums[q] += q == place.quadrant ? sum : 0.0f;
  }

#pragma unroll
  for (int q = 0; q < 4; ++q) {
    const double sum = warp_sum(sums[q]);
    if (lane_index() == 0) warp_sums[warp_index()][q] = sum;
  }
  __syncthreads();
  if (threadIdx.x < 4) {
    double sum = 0;
    for (int warp = 0; warp < kBlock / kWarp; ++warp) sum += warp_sums[warp][threadIdx.x];
    m.to.sums[(image * m.to.groups + m.first_group + group) * 4 + threadIdx.x] = sum;
  }
}

// ---- launchers ------------------------------------------------------------------------------------------------------

inline void quad_sweep_forward(const Stream& stream, const QuadScanForward<bfloat16>& p) {
  const QuadTokens tokens(stream, p.shape, p.selected, false);
  sweep_forward<true>(stream, {sweep_of(p, tokens.order(), p.states), p.z});
}

/// `sum_one_hot(comparisons)` ends the sums of the groups.
template <class SumOneHot>
void quad_sweep_backward(const Stream& stream, const QuadScanBackward<bfloat16>& p, SumOneHot sum_one_hot) {
  const QuadScanShape& s = p.shape;
  const QuadTokens tokens(stream, s, p.selected, true);
  const std::int64_t spare_rows = is_plain(s) ? 0 : s.batch * s.order.length();
  const Scratch<bfloat16> spare_grad_projection(stream, spare_rows * s.scan.directions * s.scan.projection());
  const std::int64_t groups = ceil_div(s.order.length(), kProjectionTokens);
  std::optional<Scratch<double>> sums;
  SweepComparisons comparisons;
  sweep_backward<true>(
      stream, s.scan, 1, p.grad_z, {p.grad_x, p.grad_projection, spare_grad_projection.data()}, p.grad_weights,
      [&](int) { return sweep_of(p, tokens.order(), const_cast<float*>(p.states)); },
      [&](int sweep_groups) {
        comparisons.groups = sweep_groups + groups;
        comparisons.sums = sums.emplace(stream, s.batch * comparisons.groups * 4).data();
        return comparisons;
      });
  compare_projections_kernel<<<blocks_for(s.batch * groups, 1), kBlock, 0, native(stream)>>>(
      {p, tokens.order().first, spare_grad_projection.data(), comparisons, comparisons.groups - groups});
  check_launch("compare_projections");
  sum_one_hot(comparisons);
}

}  // namespace qm::cuda
