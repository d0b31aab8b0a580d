// What quad_scan and cross_scan share on CUDA: scans of a map's tokens in two directions along an order.
//
// Directions o and o + K/2 walk the same order o, the second one backwards. A block takes kBlockTokens positions of an
// order, one tile after another (kernels/cuda/scan_core.cuh), and scans a tile in both directions on the same u: a
// token is read once for both, and their outputs and gradients are added in registers. Δ = softplus(dt_bias + dt_weight
// · δ) is made in the kernel from the token's projection.
//
// What differs between the two is a Walk: which tokens a position holds and where results go.
//   kTokens                                      the most tokens that a position holds (u is their sum)
//   place(image, position) → Place<kTokens>      which they are, and where their outputs lie
//   store_output(image, position, place, d, y)   takes y of a position and channel, both directions added
//   gradient_row(image, position, place)         the row of grad_projection that belongs to a position
//   store_grad_u(image, position, place, d, g)   takes ∂u, both directions added
#pragma once

#include "kernels/cuda/scan_core.cuh"
#include "kernels/scan_weights.h"

namespace qm::cuda {

// ---- weights
// ---------------------------------------------------------------------------------------------------------

/// The weights of all directions with channels contiguous.
struct PackedScanWeights {
  const float* A;        ///< (K, N, D) = −exp(A_logs)
  const float* dt;       ///< (K, R, D)
  const float* dt_bias;  ///< (K, D)
  const float* skip;     ///< (K, D)
};

/// Sums of the weights' gradients in the same layout, one row (A | dt | dt_bias | skip) a block of tokens.
struct PackedScanGradients {
  float *A, *dt, *dt_bias, *skip;

  QM_HOST_DEVICE static std::int64_t width(const ScanShape& s) {
    return s.directions * s.channels * (s.states + s.rank + 2);
  }

  __device__ __forceinline__ PackedScanGradients(const ScanShape& s, float* row)
      : A(row),
        dt(A + s.directions * s.states * s.channels),
        dt_bias(dt + s.directions * s.rank * s.channels),
        skip(dt_bias + s.directions * s.channels) {}
};

// Transposes A_logs and dt_weight. Grid (K · (N + R) · D / kBlock rounded up), a thread an element of (A | dt).
//   A_logs (K · D, N), dt_weight (K · D, R); A (K, N, D) = −exp(A_logs), dt (K, R, D)
static __global__ void pack_weights_kernel(ScanShape s, const float* A_logs, const float* dt_weight, float* A,
                                           float* dt) {
  const std::int64_t i = global_thread(), split = s.directions * s.states * s.channels;
  if (i >= split + s.directions * s.rank * s.channels) return;
  const bool is_A = i < split;
  const std::int64_t at = is_A ? i : i - split, inner = is_A ? s.states : s.rank;
  const std::int64_t k = at / (inner * s.channels), column = at / s.channels % inner, d = at % s.channels;
  const std::int64_t from = (k * s.channels + d) * inner + column;
  if (is_A) {
    A[at] = -expf(A_logs[from]);
  } else {
    dt[at] = dt_weight[from];
  }
}

// Adds the sums of PackedScanGradients to the gradients in the parameters' own layout; ∂A/∂A_logs = A. Null
// destinations are skipped. Grid (width / kBlock rounded up), a thread a sum.
//   sums (width); A (K, N, D)
//   grad_A_logs (K · D, N), grad_dt_weight (K · D, R), grad_dt_bias and grad_skip (K · D)
static __global__ void add_weight_gradients_kernel(ScanShape s, const float* sums, const float* A, float* grad_A_logs,
                                                   float* grad_dt_weight, float* grad_dt_bias, float* grad_skip) {
  const std::int64_t i = global_thread(), width = PackedScanGradients::width(s);
  if (i >= width) return;
  const float sum = sums[i];
  const std::int64_t rows = s.directions * s.channels, d = i % s.channels;
  const auto unpacked = [&](std::int64_t at, std::int64_t inner) {
    return (at / (inner * s.channels) * s.channels + d) * inner + at / s.channels % inner;
  };
  if (i < rows * s.states) {
    if (grad_A_logs) grad_A_logs[unpacked(i, s.states)] += sum * A[i];
  } else if (i < rows * (s.states + s.rank)) {
    if (grad_dt_weight) grad_dt_weight[unpacked(i - rows * s.states, s.rank)] += sum;
  } else if (i < rows * (s.states + s.rank + 1)) {
    if (grad_dt_bias) grad_dt_bias[i - rows * (s.states + s.rank)] += sum;
  } else {
    if (grad_skip) grad_skip[i - rows * (s.states + s.rank + 1)] += sum;
  }
}

// ---- a block of tokens
// -----------------------------------------------------------------------------------------------

/// The tokens at a position of an order: their indices in the map and where their outputs lie; −1 for none.
template <int kTokens>
struct Place {
  std::int64_t token[kTokens], output[kTokens];
};

template <class T, class Walk>
struct CoreScan {
  ScanShape scan;
  std::int64_t batch, length;
  std::int64_t out_length;     ///< tokens an image of grad_z
  std::int64_t tiles, chunks;  ///< an image
  std::int64_t directions[2];  ///< those along this order, forwards and backwards
  Walk walk;
  const T* x;           ///< (batch, length, D)
  const T* projection;  ///< (batch, length, K, R + 2N)
  const T* grad_z;      ///< (batch, out_length, D); null in a forward pass
  PackedScanWeights weights;
  Boundaries boundaries;  ///< (batch, K, tiles, N, D)
};

/// Destinations of backward.
struct CoreScanSums {
  float* projection;  ///< (channel blocks, batch, length, K, R + 2N), rows as Walk::gradient_row says
  float* weights;     ///< (batch, chunks, PackedScanGradients::width)
};

template <int kTokens>
struct CoreShared {
  Place<kTokens> places[kBlockTokens];
  Slab rank, states;
};

/// A block's view of the scan, and its thread's channel of it.
template <class T, class Walk>
struct CoreBlock : ScanBlock {
  using Shared = CoreShared<Walk::kTokens>;

  const CoreScan<T, Walk>& p;
  Shared& shared;

  /// Finds the block's tokens once: index functions divide, and every tile and channel asks for the same.
  __device__ __forceinline__ CoreBlock(const CoreScan<T, Walk>& scan, Shared& memory)
      : ScanBlock(scan.chunks, scan.scan.channels), p(scan), shared(memory) {
    for (int i = threadIdx.x; i < kBlockTokens; i += blockDim.x) {
      const std::int64_t position = chunk * kBlockTokens + i;
      if (position < p.length) {
        shared.places[i] = p.walk.place(image, position);
      } else {
        for (int j = 0; j < Walk::kTokens; ++j) shared.places[i].token[j] = shared.places[i].output[j] = -1;
      }
    }
    __syncthreads();
  }

  __device__ __forceinline__ int tiles() const {
    const std::int64_t left = p.tiles - chunk * kTilesPerBlock;
    return static_cast<int>(left < kTilesPerBlock ? left : kTilesPerBlock);
  }
  __device__ __forceinline__ std::int64_t position(int tile, int t) const {
    return chunk * kBlockTokens + tile * kTile + t;
  }
  /// Tokens of a tile that lie within the sequence.
  __device__ __forceinline__ int valid(int tile) const {
    const std::int64_t left = p.length - position(tile, 0);
    return static_cast<int>(left < kTile ? left : kTile);
  }
  __device__ __forceinline__ const Place<Walk::kTokens>& place(int tile, int t) const {
    return shared.places[tile * kTile + t];
  }

  /// u[t] = Σ over the tokens at a position of rows of x; 0 where there is none.
  __device__ __forceinline__ void load_u(int tile, float (&u)[kTile]) const {
    const T* x = p.x + image * p.length * p.scan.channels + channel;
#pragma unroll
    for (int t = 0; t < kTile; ++t) {
      u[t] = 0;
#pragma unroll
      for (int i = 0; i < Walk::kTokens; ++i) {
        const std::int64_t token = place(tile, t).token[i];
        if (active && token >= 0) u[t] += to_real(x[token * p.scan.channels]);
      }
    }
  }

  /// The outputs that read y[position] are those of exactly the tokens there.
  __device__ __forceinline__ void load_grad_y(int tile, float (&grad_y)[kTile]) const {
    const T* grad_z = p.grad_z + image * p.out_length * p.scan.channels + channel;
#pragma unroll
    for (int t = 0; t < kTile; ++t) {
      grad_y[t] = 0;
#pragma unroll
      for (int i = 0; i < Walk::kTokens; ++i) {
        const std::int64_t output = place(tile, t).output[i];
        if (active && output >= 0) grad_y[t] += to_real(grad_z[output * p.scan.channels]);
      }
    }
  }

  /// Number `column` of direction k's projection at a place.
  __device__ __forceinline__ float projection(std::int64_t k, int tile, int t, std::int64_t column) const {
    const T* rows = p.projection + image * p.length * p.scan.directions * p.scan.projection();
    float sum = 0;
#pragma unroll
    for (int i = 0; i < Walk::kTokens; ++i) {
      const std::int64_t token = place(tile, t).token[i];
      if (token >= 0) sum += to_real(rows[(token * p.scan.directions + k) * p.scan.projection() + column]);
    }
    return sum;
  }
  __device__ __forceinline__ auto B_of(std::int64_t k, int tile) const {
    return [this, k, tile](int t, std::int64_t n) { return projection(k, tile, t, p.scan.rank + n); };
  }
  __device__ __forceinline__ auto C_of(std::int64_t k, int tile) const {
    return [this, k, tile](int t, std::int64_t n) { return projection(k, tile, t, p.scan.rank + p.scan.states + n); };
  }

  /// Stages numbers [first, first + returned count) of the tile's δ.
  __device__ __forceinline__ int stage_rank(std::int64_t k, int tile, std::int64_t first) const {
    const std::int64_t left = p.scan.rank - first;
    const int count = static_cast<int>(left < kSlabColumns ? left : kSlabColumns);
    __syncthreads();
    stage(shared.rank, 0, count, [&](int t, int c) { return projection(k, tile, t, first + c); });
    __syncthreads();
    return count;
  }
  /// dt[k][r] of the thread's channel.
  __device__ __forceinline__ float dt_weight(std::int64_t k, std::int64_t r) const {
    return active ? p.weights.dt[(k * p.scan.rank + r) * p.scan.channels + channel] : 0.0f;
  }

  /// Δ of the tile; 0 beyond the end of the sequence and the last channel. Leaves δ's last slab staged.
  __device__ __forceinline__ void load_delta(std::int64_t k, int tile, float (&delta)[kTile]) const {
    const float bias = active ? p.weights.dt_bias[k * p.scan.channels + channel] : 0.0f;
#pragma unroll
    for (int t = 0; t < kTile; ++t) delta[t] = bias;
    for (std::int64_t first = 0; first < p.scan.rank; first += kSlabColumns) {
      const int count = stage_rank(k, tile, first);
      for (int c = 0; c < count; ++c) {
        const float weight = dt_weight(k, first + c);
        float column[kTile];
        read_column(shared.rank, c, column);
#pragma unroll
        for (int t = 0; t < kTile; ++t) delta[t] += weight * column[t];
      }
    }
    const int inside = active ? valid(tile) : 0;
#pragma unroll
    for (int t = 0; t < kTile; ++t) delta[t] = t < inside ? softplus(delta[t]) : 0.0f;
  }

  /// Direction k's A (states apart by D) at the thread's channel.
  __device__ __forceinline__ const float* A_of(std::int64_t k) const {
    return p.weights.A + k * p.scan.states * p.scan.channels + channel;
  }
  __device__ __forceinline__ float skip_of(std::int64_t k) const {
    return active ? p.weights.skip[k * p.scan.channels + channel] : 0.0f;
  }
  __device__ __forceinline__ Boundaries boundaries_of(std::int64_t k, int tile) const {
    const std::int64_t sequence = image * p.scan.directions + k;
    const std::int64_t at =
        (sequence * p.tiles + chunk * kTilesPerBlock + tile) * p.scan.states * p.scan.channels + channel;
    const Boundaries& all = p.boundaries;
    return {all.decay + at, all.state + at, all.carry ? all.carry + at : nullptr};
  }
};

// ---- pass 1: boundaries
// ----------------------------------------------------------------------------------------------

template <bool kReversed, bool kWithCarry, class T, class Walk>
__device__ __forceinline__ void core_boundary(const CoreBlock<T, Walk>& block, int tile, const float (&u)[kTile],
                                              const float (&grad_y)[kTile]) {
  const CoreScan<T, Walk>& p = block.p;
  const std::int64_t k = p.directions[kReversed];
  float delta[kTile];
  block.load_delta(k, tile, delta);
  states_boundary<kReversed, kWithCarry>(block.shared.states, p.scan.states, p.scan.channels, block.active,
                                         block.A_of(k), u, delta, grad_y, block.B_of(k, tile), block.C_of(k, tile),
                                         block.boundaries_of(k, tile));
}

// What crosses the ends of every tile, each on its own; E only where kWithCarry.
// Grid (batch · chunks, channel blocks), block (channels of the block, rounded up to warps).
//   x, projection, grad_z, weights, boundaries: as in CoreScan
template <bool kWithCarry, class T, class Walk>
__global__ void __launch_bounds__(kScanThreads) core_boundaries_kernel(CoreScan<T, Walk> p) {
  __shared__ CoreShared<Walk::kTokens> shared;
  const CoreBlock<T, Walk> block(p, shared);
  for (int tile = 0; tile < block.tiles(); ++tile) {
    float u[kTile], grad_y[kTile] = {};
    block.load_u(tile, u);
    if constexpr (kWithCarry) block.load_grad_y(tile, grad_y);
    core_boundary<false, kWithCarry>(block, tile, u, grad_y);
    core_boundary<true, kWithCarry>(block, tile, u, grad_y);
  }
}

// ---- pass 3, forward
// -------------------------------------------------------------------------------------------------

template <bool kReversed, class T, class Walk>
__device__ __forceinline__ void core_forward(const CoreBlock<T, Walk>& block, int tile, const float (&u)[kTile],
                                             float (&y)[kTile]) {
  const CoreScan<T, Walk>& p = block.p;
  const std::int64_t k = p.directions[kReversed];
  float delta[kTile];
  block.load_delta(k, tile, delta);
  const float skip = block.skip_of(k);
#pragma unroll
  for (int t = 0; t < kTile; ++t) y[t] += skip * u[t];
  states_forward<kReversed>(block.shared.states, p.scan.states, p.scan.channels, block.active, block.A_of(k),
                            block.boundaries_of(k, tile).state, u, delta, block.B_of(k, tile), block.C_of(k, tile), y);
}

// y of both directions along an order. Grid and block as core_boundaries_kernel.
//   x, projection, weights, boundaries: as in CoreScan; results: as the Walk says
template <class T, class Walk>
__global__ void __launch_bounds__(kScanThreads) core_forward_kernel(CoreScan<T, Walk> p) {
  __shared__ CoreShared<Walk::kTokens> shared;
  const CoreBlock<T, Walk> block(p, shared);
  for (int tile = 0; tile < block.tiles(); ++tile) {
    float u[kTile], y[kTile] = {};
    block.load_u(tile, u);
    core_forward<false>(block, tile, u, y);
    core_forward<true>(block, tile, u, y);
    const int valid = block.active ? block.valid(tile) : 0;
#pragma unroll
    for (int t = 0; t < kTile; ++t) {
      if (t < valid) {
        p.walk.store_output(block.image, block.position(tile, t), block.place(tile, t), block.channel, y[t]);
      }
    }
  }
}

// ---- pass 3, backward
// ------------------------------------------------------------------------------------------------

template <int kTokens>
struct CoreBackwardShared {
  CoreShared<kTokens> block;
  ChannelSums sums;
};

/// Where the block's sums over its channels for direction k and column `first` + c of the tile's projections go.
template <class T, class Walk>
__device__ __forceinline__ auto projection_sums(const CoreBlock<T, Walk>& block, float* out, std::int64_t k, int tile,
                                                std::int64_t first) {
  const CoreScan<T, Walk>& p = block.p;
  const std::int64_t row_width = p.scan.directions * p.scan.projection();
  float* rows = out + blockIdx.y * p.batch * p.length * row_width + k * p.scan.projection() + first;
  return [&block, tile, rows, row_width](int t, std::int64_t c, float sum) {
    const std::int64_t row = block.p.walk.gradient_row(block.image, block.position(tile, t), block.place(tile, t));
    rows[row * row_width + c] = sum;
  };
}

/// Backward of load_delta: takes grad_x, the gradient of Δ before softplus.
///   ∂δ_r = Σ_d ∂x dt[r],  ∂dt[r] += Σ_t ∂x δ_r,  ∂dt_bias += Σ_t ∂x
template <class T, class Walk>
__device__ __forceinline__ void delta_backward(const CoreBlock<T, Walk>& block, ChannelSums& sums,
                                               const CoreScanSums& out, const PackedScanGradients& grad_weights,
                                               std::int64_t k, int tile, const float (&grad_x)[kTile]) {
  const CoreScan<T, Walk>& p = block.p;
  const std::int64_t channels = p.scan.channels;
  if (block.active) {
    float grad_bias = 0;
#pragma unroll
    for (int t = 0; t < kTile; ++t) grad_bias += grad_x[t];
    accumulate(grad_weights.dt_bias + k * channels + block.channel, grad_bias, tile == 0);
  }
  for (std::int64_t first = 0; first < p.scan.rank; first += kSlabColumns) {
    int count = static_cast<int>(p.scan.rank);
    if (p.scan.rank > kSlabColumns) count = block.stage_rank(k, tile, first);  // else load_delta left it staged
    for (int pair = 0; pair < count; pair += 2) {
      float products[2 * kTile];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int c = pair + half;
        const bool inside = c < count;
        const std::int64_t r = first + c;
        const float weight = inside ? block.dt_weight(k, r) : 0.0f;
        float delta_r[kTile], grad_weight = 0;
        read_column(block.shared.rank, c, delta_r);
#pragma unroll
        for (int t = 0; t < kTile; ++t) {
          products[half * kTile + t] = grad_x[t] * weight;
          grad_weight += grad_x[t] * delta_r[t];
        }
        if (inside && block.active) {
          accumulate(grad_weights.dt + (k * p.scan.rank + r) * channels + block.channel, grad_weight, tile == 0);
        }
      }
      sum_columns(sums, pair, pair + 1, products);
    }
    __syncthreads();
    store_sums(sums, 0, count, block.valid(tile), projection_sums(block, out.projection, k, tile, first));
    __syncthreads();
  }
}

template <bool kReversed, class T, class Walk>
__device__ __forceinline__ void core_backward(const CoreBlock<T, Walk>& block, ChannelSums& sums,
                                              const CoreScanSums& out, const PackedScanGradients& grad_weights,
                                              int tile, const float (&u)[kTile], const float (&grad_y)[kTile],
                                              float (&grad_u)[kTile]) {
  const CoreScan<T, Walk>& p = block.p;
  const std::int64_t k = p.directions[kReversed], channels = p.scan.channels;
  float delta[kTile], grad_delta[kTile] = {};
  block.load_delta(k, tile, delta);

  const float skip = block.skip_of(k);
  float grad_skip = 0;
#pragma unroll
  for (int t = 0; t < kTile; ++t) {
    grad_u[t] += skip * grad_y[t];
    grad_skip += grad_y[t] * u[t];
  }
  if (block.active) accumulate(grad_weights.skip + k * channels + block.channel, grad_skip, tile == 0);

  states_backward<kReversed>(block.shared.states, sums, p.scan.states, channels, block.active, block.A_of(k),
                             block.boundaries_of(k, tile), u, delta, grad_y, block.valid(tile), tile == 0,
                             block.B_of(k, tile), block.C_of(k, tile),
                             projection_sums(block, out.projection, k, tile, p.scan.rank),
                             projection_sums(block, out.projection, k, tile, p.scan.rank + p.scan.states), grad_u,
                             grad_delta, grad_weights.A + k * p.scan.states * channels + block.channel);
#pragma unroll
  for (int t = 0; t < kTile; ++t) grad_delta[t] *= softplus_gradient(delta[t]);
  delta_backward(block, sums, out, grad_weights, k, tile, grad_delta);
}

// All gradients of both directions along an order, but for sums over blocks. Grid and block as core_boundaries_kernel.
//   x, projection, grad_z, weights, boundaries: as in CoreScan; out: as in CoreScanSums; ∂u: as the Walk says
template <class T, class Walk>
__global__ void __launch_bounds__(kScanThreads) core_backward_kernel(CoreScan<T, Walk> p, CoreScanSums out) {
  __shared__ CoreBackwardShared<Walk::kTokens> shared;
  const CoreBlock<T, Walk> block(p, shared.block);
  const PackedScanGradients grad_weights(p.scan, out.weights + blockIdx.x * PackedScanGradients::width(p.scan));
  for (int tile = 0; tile < block.tiles(); ++tile) {
    float u[kTile], grad_y[kTile], grad_u[kTile] = {};
    block.load_u(tile, u);
    block.load_grad_y(tile, grad_y);
    core_backward<false>(block, shared.sums, out, grad_weights, tile, u, grad_y, grad_u);
    core_backward<true>(block, shared.sums, out, grad_weights, tile, u, grad_y, grad_u);
    const int valid = block.active ? block.valid(tile) : 0;
#pragma unroll
    for (int t = 0; t < kTile; ++t) {
      if (t < valid) {
        p.walk.store_grad_u(block.image, block.position(tile, t), block.place(tile, t), block.channel, grad_u[t]);
      }
    }
  }
}

// ---- launchers
// -------------------------------------------------------------------------------------------------------

/// The weights in the layout of the kernels, for the launches of one call.
class PackedWeightsScratch {
 public:
  template <class T>
  PackedWeightsScratch(const Stream& stream, const ScanShape& s, const ScanWeights<T>& weights)
      : A_(stream, s.directions * s.states * s.channels),
        dt_(stream, s.directions * s.rank * s.channels),
        packed_{A_.data(), dt_.data(), weights.dt_bias, weights.skip} {
    pack_weights_kernel<<<blocks_for(s.directions * (s.states + s.rank) * s.channels), kBlock, 0, native(stream)>>>(
        s, weights.A_logs, weights.dt_weight, A_.data(), dt_.data());
    check_launch("pack_weights");
  }

  const PackedScanWeights& packed() const { return packed_; }

 private:
  Scratch<float> A_, dt_;
  PackedScanWeights packed_;
};

/// What both launchers take: the contracts' inputs, in any order of tokens.
template <class T>
struct CoreInputs {
  ScanShape scan;
  std::int64_t batch, length;
  const T* x;           ///< (batch, length, D)
  const T* projection;  ///< (batch, length, K, R + 2N)
  ScanWeights<T> weights;
};

/// Passes 1 and 2 over all orders. `scan_of(order)` makes the CoreScan of one.
template <class T, class ScanOf>
void find_boundaries(const Stream& stream, const CoreInputs<T>& in, const ScanGeometry& geometry,
                     const Boundaries& boundaries, ScanOf scan_of) {
  const ScanShape& s = in.scan;
  for (int order = 0; order < s.directions / 2; ++order) {
    if (boundaries.carry) {
      core_boundaries_kernel<true><<<geometry.grid(in.batch, 1), geometry.threads, 0, native(stream)>>>(scan_of(order));
    } else {
      core_boundaries_kernel<false>
          <<<geometry.grid(in.batch, 1), geometry.threads, 0, native(stream)>>>(scan_of(order));
    }
    check_launch("core_boundaries");
  }
  combine_tiles(stream, in.batch * s.directions, s.directions, s.directions / 2, geometry.tiles, s.states * s.channels,
                boundaries);
}

/// The CoreScan of an order.
template <class T, class Walk>
CoreScan<T, Walk> core_scan_of(const CoreInputs<T>& in, const ScanGeometry& geometry, int order, const Walk& walk,
                               const PackedScanWeights& weights, const Boundaries& boundaries, const T* grad_z,
                               std::int64_t out_length) {
  return {in.scan,
          in.batch,
          in.length,
          out_length,
          geometry.tiles,
          geometry.chunks,
          {order, order + in.scan.directions / 2},
          walk,
          in.x,
          in.projection,
          grad_z,
          weights,
          boundaries};
}

/// make_walk(order) describes orders 0 … K/2 − 1. Order o's results are stored before those of o + 1.
template <class T, class MakeWalk>
void core_scan_forward(const Stream& stream, const CoreInputs<T>& in, MakeWalk make_walk) {
  const ScanShape& s = in.scan;
  const ScanGeometry geometry(in.length, s.channels);
  const PackedWeightsScratch weights(stream, s, in.weights);
  const BoundaryScratch boundaries(stream, in.batch * s.directions * geometry.tiles * s.states * s.channels, false);
  const auto scan_of = [&](int order) {
    return core_scan_of<T>(in, geometry, order, make_walk(order), weights.packed(), boundaries.all(), nullptr, 0);
  };
  find_boundaries(stream, in, geometry, boundaries.all(), scan_of);
  for (int order = 0; order < s.directions / 2; ++order) {
    core_forward_kernel<<<geometry.grid(in.batch, 1), geometry.threads, 0, native(stream)>>>(scan_of(order));
    check_launch("core_forward");
  }
}

/// grad_z (batch, out_length, D); grad_projection (batch, length, K, R + 2N) assigned, in the rows that the walk says,
/// as floats or as T; the weights' gradients accumulated.
template <class T, class Projection, class MakeWalk>
void core_scan_backward(const Stream& stream, const CoreInputs<T>& in, const T* grad_z, std::int64_t out_length,
                        Projection* grad_projection, const ScanWeightGradients<T>& grad_weights, MakeWalk make_walk) {
  const ScanShape& s = in.scan;
  const ScanGeometry geometry(in.length, s.channels);
  const std::int64_t projections = in.batch * in.length * s.directions * s.projection();
  const std::int64_t width = PackedScanGradients::width(s), rows = in.batch * geometry.chunks;
  const PackedWeightsScratch weights(stream, s, in.weights);
  const BoundaryScratch boundaries(stream, in.batch * s.directions * geometry.tiles * s.states * s.channels, true);
  const auto scan_of = [&](int order) {
    return core_scan_of<T>(in, geometry, order, make_walk(order), weights.packed(), boundaries.all(), grad_z,
                           out_length);
  };
  find_boundaries(stream, in, geometry, boundaries.all(), scan_of);

  const Scratch<float> projection_sums(stream, geometry.channel_blocks * projections),
      weight_sums(stream, rows * width);
  for (int order = 0; order < s.directions / 2; ++order) {
    core_backward_kernel<<<geometry.grid(in.batch, 1), geometry.threads, 0, native(stream)>>>(
        scan_of(order), CoreScanSums{projection_sums.data(), weight_sums.data()});
    check_launch("core_backward");
  }
  sum_channel_blocks(stream, geometry.channel_blocks, projections, projection_sums.data(), grad_projection);
  const TokenBlockSum sums(stream, rows, width, weight_sums.data());
  add_weight_gradients_kernel<<<blocks_for(width), kBlock, 0, native(stream)>>>(
      s, sums.data(), weights.packed().A, grad_weights.A_logs, grad_weights.dt_weight, grad_weights.dt_bias,
      grad_weights.skip);
  check_launch("add_weight_gradients");
}

}  // namespace qm::cuda
