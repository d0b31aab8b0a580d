// One order, the learned sequence, scanned in both directions (kernels/cuda/core_scan.cuh). Every token reads exactly
// one position, so the forward pass hands y to the tokens of a position as soon as it has it. Backward keeps the
// gradients of the sequence, and a second kernel gathers them by token and compares the token's two positions:
//
//   grad_x[t] = gs[position(t)],  grad_projection[t] = gq[position(t)]
//   grad_one_hot[r] = Σ_{t∈r} ⟨x_t, gs[f(t)] − gs[c(t)]⟩ + ⟨projection_t, gq[f(t)] − gq[c(t)]⟩
//                          + ⟨gz_t, y[f(t)] − y[c(t)]⟩
#include "kernels/quad_scan.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/core_scan.cuh"
#include "kernels/cuda/quad_sweep.cuh"
#include "kernels/cuda/reduce.cuh"

namespace qm::cuda {
namespace {

/// Index of a token in the cropped output, or −1 where it lies in the padding.
__device__ __forceinline__ std::int64_t output_of(const QuadScanShape& s, std::int64_t token) {
  const std::int64_t i = token / s.order.width, j = token % s.order.width;
  return i < s.out_height && j < s.out_width ? i * s.out_width + j : -1;
}

/// y and z are written in the forward pass, grad_s in backward; the others are null.
template <class T>
struct QuadWalk {
  static constexpr int kTokens = 2;

  QuadScanShape shape;
  const std::int32_t* selected;  ///< (batch)
  T* y;                          ///< (batch, L, D)
  T* z;                          ///< (batch, out_height, out_width, D)
  float* grad_s;                 ///< (batch, L, D)

  __device__ __forceinline__ Place<2> place(std::int64_t image, int position) const {
    std::int64_t tokens[2] = {-1, -1};
    shape.order.tokens_at(position, selected[image], tokens);
    Place<2> place;
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      place.token[i] = static_cast<int>(tokens[i]);
      place.output[i] = static_cast<int>(tokens[i] < 0 ? -1 : output_of(shape, tokens[i]));
    }
    return place;
  }

  __device__ __forceinline__ std::int64_t gradient_row(std::int64_t image, int position, const Place<2>&) const {
    return image * shape.order.length() + position;
  }

  __device__ __forceinline__ void store_output(std::int64_t image, int position, const Place<2>& place, int d,
                                               float value) const {
    const T stored = from_real<T>(value);
    y[gradient_row(image, position, place) * shape.scan.channels + d] = stored;
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      const std::int64_t row = image * shape.out_height * shape.out_width + place.output[i];
      if (place.output[i] >= 0) z[row * shape.scan.channels + d] = stored;
    }
  }
  __device__ __forceinline__ void store_grad_u(std::int64_t image, int position, const Place<2>& place, int d,
                                               float value) const {
    grad_s[gradient_row(image, position, place) * shape.scan.channels + d] = value;
  }
};

// ---- gradients by token ---------------------------------------------------------------------------------------------

constexpr int kMergeTokens = 64;  ///< a block
constexpr int kMergeWarps = 8;    ///< a block; each takes one token at a time
constexpr int kMergeBlocks = 4;   ///< a multiprocessor

/// Where a token of the rolled map lies in memory, in the sequence and in the output.
struct TokenPlace {
  std::int64_t address, fine, coarse, output;
  int quadrant;
  bool takes_fine;
};

__device__ __forceinline__ TokenPlace locate(const QuadScanShape& s, std::int64_t index, int selected) {
  const QuadOrder::Token token{index / s.order.width, index % s.order.width};
  const std::int64_t address = s.order.address(token);
  const int quadrant = s.order.quadrant(token);
  return {address,  s.order.fine_position(token), s.order.coarse_position(token), output_of(s, address),
          quadrant, quadrant == selected};
}

/// This lane's part of ⟨v, fine − coarse⟩ over `width` numbers. The rows are subtracted first: they are often close.
template <class V, class Row>
__device__ __forceinline__ float fine_minus_coarse(std::int64_t width, const V* v, const Row* fine, const Row* coarse) {
  float sum = 0;
  for (std::int64_t i = lane_index(); i < width; i += kWarp) {
    sum += to_real(v[i]) * (to_real(fine[i]) - to_real(coarse[i]));
  }
  return sum;
}

/// The same, and assigned[i] = the row that the token takes.
template <class T>
__device__ __forceinline__ float take_and_compare(std::int64_t width, const T* v, const float* fine,
                                                  const float* coarse, bool takes_fine, T* assigned) {
  const float* taken = takes_fine ? fine : coarse;
  for (std::int64_t i = lane_index(); i < width; i += kWarp) assigned[i] = from_real<T>(taken[i]);
  return fine_minus_coarse(width, v, fine, coarse);
}

template <class T>
struct MergeGradients {
  QuadScanBackward<T> p;
  std::int64_t groups;    ///< of kMergeTokens tokens, an image
  const float* grad_s;    ///< (batch, L, D)
  const float* grad_q;    ///< (batch, L, K, R + 2N)
  double* quadrant_sums;  ///< (batch, groups, 4)
};

/// This lane's part of ∂one_hot of one token's quadrant; assigns the token's gradients.
template <class T>
__device__ __forceinline__ float merge_token(const MergeGradients<T>& m, std::int64_t image, const TokenPlace& place) {
  const QuadScanShape& s = m.p.shape;
  const std::int64_t channels = s.scan.channels, projections = s.scan.directions * s.scan.projection();
  const std::int64_t front = image * s.order.length();
  const std::int64_t token = front + place.address, fine = front + place.fine, coarse = front + place.coarse;
  float sum = take_and_compare(channels, m.p.x + token * channels, m.grad_s + fine * channels,
                               m.grad_s + coarse * channels, place.takes_fine, m.p.grad_x + token * channels);
  sum += take_and_compare(projections, m.p.projection + token * projections, m.grad_q + fine * projections,
                          m.grad_q + coarse * projections, place.takes_fine, m.p.grad_projection + token * projections);
  if (place.output >= 0) {
    const std::int64_t output = image * s.out_height * s.out_width + place.output;
    sum +=
        fine_minus_coarse(channels, m.p.grad_z + output * channels, m.p.y + fine * channels, m.p.y + coarse * channels);
  }
  return sum;
}

// grad_x and grad_projection, and a group's terms of grad_one_hot. These are summed in double: thousands of terms of
// either sign nearly cancel, and the predictor learns from what is left.
// Grid (batch · groups), block (kMergeWarps · 32): a warp a token, lanes its channels.
//   x, projection, selected, y, grad_z, grad_x, grad_projection: as in kernels/quad_scan.h; the rest as in
//   MergeGradients
template <class T>
__global__ void __launch_bounds__(kMergeWarps* kWarp, kMergeBlocks) merge_gradients_kernel(MergeGradients<T> m) {
  __shared__ TokenPlace places[kMergeTokens];
  __shared__ double warp_sums[kMergeWarps][4];
  const std::int64_t image = blockIdx.x / m.groups, group = blockIdx.x % m.groups;
  const std::int64_t first = group * kMergeTokens, left = m.p.shape.order.length() - first;
  const int tokens = static_cast<int>(left < kMergeTokens ? left : kMergeTokens);
  if (threadIdx.x < tokens) places[threadIdx.x] = locate(m.p.shape, first + threadIdx.x, m.p.selected[image]);
  __syncthreads();

  double sums[4] = {};
  for (int t = warp_index(); t < tokens; t += kMergeWarps) {
    const float sum = merge_token(m, image, places[t]);
#pragma unroll
    for (int q = 0; q < 4; ++q) sums[q] += q == places[t].quadrant ? sum : 0.0f;
  }
#pragma unroll
  for (int q = 0; q < 4; ++q) {
    const double sum = warp_sum(sums[q]);
    if (lane_index() == 0) warp_sums[warp_index()][q] = sum;
  }
  __syncthreads();
  if (threadIdx.x < 4) {
    double sum = 0;
    for (int warp = 0; warp < kMergeWarps; ++warp) sum += warp_sums[warp][threadIdx.x];
    m.quadrant_sums[blockIdx.x * 4 + threadIdx.x] = sum;
  }
}

// Grid (batch · 4 / kBlock rounded up), a thread a quadrant of an image.
//   quadrant_sums (batch, groups, 4); grad_one_hot (batch, 4)
__global__ void sum_one_hot_kernel(std::int64_t count, std::int64_t groups, const double* quadrant_sums,
                                   float* grad_one_hot) {
  const std::int64_t i = global_thread();
  if (i >= count) return;
  double sum = 0;
  for (std::int64_t group = 0; group < groups; ++group) sum += quadrant_sums[(i / 4 * groups + group) * 4 + i % 4];
  grad_one_hot[i] = static_cast<float>(sum);
}

// ---- launchers ------------------------------------------------------------------------------------------------------

template <class T, class Params>
CoreInputs<T> inputs_of(const Params& p) {
  return {p.shape.scan, p.shape.batch, p.shape.order.length(), p.x, p.projection, p.weights};
}

template <class Params>
void sum_one_hot(const Stream& stream, const Params& p, std::int64_t groups, const double* quadrant_sums) {
  sum_one_hot_kernel<<<blocks_for(p.shape.batch * 4), kBlock, 0, native(stream)>>>(p.shape.batch * 4, groups,
                                                                                   quadrant_sums, p.grad_one_hot);
  check_launch("sum_one_hot");
}

template <class T>
void merge_gradients(const Stream& stream, const QuadScanBackward<T>& p, const float* grad_s, const float* grad_q) {
  const std::int64_t groups = ceil_div(p.shape.order.length(), kMergeTokens), blocks = p.shape.batch * groups;
  const Scratch<double> quadrant_sums(stream, blocks * 4);
  merge_gradients_kernel<T><<<blocks_for(blocks, 1), kMergeWarps * kWarp, 0, native(stream)>>>(
      {p, groups, grad_s, grad_q, quadrant_sums.data()});
  check_launch("merge_gradients");
  sum_one_hot(stream, p, groups, quadrant_sums.data());
}

}  // namespace

ScanSaved quad_scan_saved_bf16(const QuadScanShape& s) {
  const std::int64_t positions = s.order.length();
  if (!sweeps(s.scan, s.batch, positions)) return {.y = s.batch * positions * s.scan.channels};
  return {.states = sweep_states(s.scan, s.batch, positions)};
}

template <class T>
void quad_scan_forward(const Stream& stream, const QuadScanForward<T>& p) {
  if (p.shape.batch == 0) return;
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (sweeps(p.shape.scan, p.shape.batch, p.shape.order.length())) return quad_sweep_forward(stream, p);
  }
  core_scan_forward(stream, inputs_of<T>(p), [&](int) { return QuadWalk<T>{p.shape, p.selected, p.y, p.z, nullptr}; });
}

template <class T>
void quad_scan_backward(const Stream& stream, const QuadScanBackward<T>& p) {
  if (p.shape.batch == 0) return;
  const QuadScanShape& s = p.shape;
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (sweeps(s.scan, s.batch, s.order.length())) {
      return quad_sweep_backward(stream, p, [&](const SweepComparisons& of) {
        sum_one_hot(stream, p, of.groups, of.sums);
      });
    }
  }
  const std::int64_t positions = s.batch * s.order.length();
  const Scratch<float> grad_s(stream, positions * s.scan.channels);
  const Scratch<float> grad_q(stream, positions * s.scan.directions * s.scan.projection());
  core_scan_backward(stream, inputs_of<T>(p), p.grad_z, s.out_height * s.out_width, grad_q.data(), p.grad_weights,
                     [&](int) {
                       return QuadWalk<T>{s, p.selected, nullptr, nullptr, grad_s.data()};
                     });
  merge_gradients(stream, p, grad_s.data(), grad_q.data());
}

QM_INSTANTIATE_CUDA(quad_scan_forward, QuadScanForward)
QM_INSTANTIATE_CUDA(quad_scan_backward, QuadScanBackward)

}  // namespace qm::cuda
