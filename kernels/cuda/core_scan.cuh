// What quad_scan and cross_scan share on CUDA: scans of a map's tokens in two directions along an order.
//
// Directions o and o + K/2 walk the same order o, the second one backwards. A block takes kBlockTokens positions of an
// order, one tile after another (kernels/cuda/scan_core.cuh), and scans a tile in both directions on the same u: a
// token is read once for both, and their outputs and gradients are added in registers. The pre-activation of Δ,
// dt_bias + dt_weight · δ, is made in the kernel from the token's projection (δ | B | C).
//
// What differs between the two is a Walk: which tokens a position holds and where results go.
//   kTokens                                      the most tokens that a position holds (u is their sum)
//   place(image, position) → Place<kTokens>      which they are, and where their outputs lie
//   store_output(image, position, place, d, y)   takes y of a position and channel, both directions added
//   store_grad_u(image, position, place, d, g)   takes ∂u, both directions added
//   gradient_row(image, position, place)         the row of grad_projection that belongs to a position
#pragma once

#include "kernels/cuda/scan_core.cuh"
#include "kernels/cuda/scan_weights.cuh"

namespace qm::cuda {

// ---- a block of tokens ----------------------------------------------------------------------------------------------

/// The tokens at a position of an order: their indices in the map and where their outputs lie; −1 for none.
template <int kTokens>
struct Place {
  int token[kTokens], output[kTokens];
};

template <class T, class Walk>
struct CoreScan {
  ScanSizes sizes;
  ScanShape shape;
  std::int64_t out_length;  ///< tokens an image of grad_z
  int directions[2];        ///< those along this order, forwards and backwards
  Walk walk;
  const T* x;           ///< (batch, length, D)
  const T* projection;  ///< (batch, length, K, R + 2N)
  const T* grad_z;      ///< (batch, out_length, D); null in a forward pass
  PackedScanWeights weights;
  Boundaries boundaries;  ///< (batch, K, tiles, N, D)
};

template <int kTokens>
struct CoreShared {
  Place<kTokens> places[kBlockTokens];
  Slab rank, states;
};

/// A block's view of the scan, and its thread's channel of it.
template <class T, class Walk>
struct CoreBlock : ScanBlock {
  const CoreScan<T, Walk>& p;
  CoreShared<Walk::kTokens>& shared;
  int rank, projections;  ///< R, and R + 2N

  /// Finds the block's tokens once: index functions divide, and every tile and channel asks for the same.
  __device__ __forceinline__ CoreBlock(const CoreScan<T, Walk>& scan, CoreShared<Walk::kTokens>& memory)
      : ScanBlock(scan.sizes),
        p(scan),
        shared(memory),
        rank(static_cast<int>(scan.shape.rank)),
        projections(static_cast<int>(scan.shape.projection())) {
    for (int i = threadIdx.x; i < kBlockTokens; i += blockDim.x) {
      if (position(0, i) < sizes.length) {
        shared.places[i] = p.walk.place(image, position(0, i));
      } else {
        for (int j = 0; j < Walk::kTokens; ++j) shared.places[i].token[j] = shared.places[i].output[j] = -1;
      }
    }
    __syncthreads();
  }

  __device__ __forceinline__ const Place<Walk::kTokens>& place(int tile, int t) const {
    return shared.places[tile * kTile + t];
  }

  /// Σ over the rows of an image's map at the thread's channel; −1 stands for no row.
  __device__ __forceinline__ float sum_of(const T* map, const int (&rows)[Walk::kTokens]) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < Walk::kTokens; ++i) {
      if (active && rows[i] >= 0) sum += to_real(map[static_cast<std::int64_t>(rows[i]) * sizes.channels]);
    }
    return sum;
  }
  __device__ __forceinline__ void load_u(int tile, float (&u)[kTile]) const {
    const T* x = p.x + image * sizes.length * sizes.channels + channel;
#pragma unroll
    for (int t = 0; t < kTile; ++t) u[t] = sum_of(x, place(tile, t).token);
  }
  /// y of a position is read by exactly the outputs of its tokens.
  __device__ __forceinline__ void load_grad_y(int tile, float (&grad_y)[kTile]) const {
    const T* grad_z = p.grad_z + image * p.out_length * sizes.channels + channel;
#pragma unroll
    for (int t = 0; t < kTile; ++t) grad_y[t] = sum_of(grad_z, place(tile, t).output);
  }

  /// Reads direction k's projections from number `first` on: (t, c) → that of position t and number first + c.
  __device__ __forceinline__ auto projections_of(int k, int tile, int first) const {
    const int row_width = sizes.directions * projections;
    const T* rows = p.projection + image * sizes.length * row_width + k * projections + first;
    return [this, tile, row_width, rows](int t, int c) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < Walk::kTokens; ++i) {
        const int token = place(tile, t).token[i];
        if (token >= 0) sum += to_real(rows[static_cast<std::int64_t>(token) * row_width + c]);
      }
      return sum;
    };
  }
  __device__ __forceinline__ auto B_of(int k, int tile) const {
    return projections_of(k, tile, rank);
  }
  __device__ __forceinline__ auto C_of(int k, int tile) const {
    return projections_of(k, tile, rank + sizes.states);
  }

  /// Stages numbers [first, first + returned count) of the tile's δ.
  __device__ __forceinline__ int stage_rank(int k, int tile, int first) const {
    const int count = min(kSlabColumns, rank - first);
    __syncthreads();
    stage(shared.rank, 0, count, projections_of(k, tile, first));
    __syncthreads();
    return count;
  }

  /// Where a weight or a sum of its gradients (K, rows, D) has row `row` of direction k, at the thread's channel.
  __device__ __forceinline__ std::int64_t weight_at(int k, int rows, int row) const {
    return static_cast<std::int64_t>(k * rows + row) * sizes.channels + channel;
  }

  /// Δ of the tile; 0 beyond the end of the sequence and the last channel. Leaves δ's last slab staged.
  __device__ __forceinline__ void load_delta(int k, int tile, float (&delta)[kTile]) const {
    const float bias = active ? p.weights.dt_bias[weight_at(k, 1, 0)] : 0.0f;
#pragma unroll
    for (int t = 0; t < kTile; ++t) delta[t] = bias;
    for (int first = 0; first < rank; first += kSlabColumns) {
      const int count = stage_rank(k, tile, first);
      for (int c = 0; c < count; ++c) {
        const float weight = active ? p.weights.dt[weight_at(k, rank, first + c)] : 0.0f;
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

  __device__ __forceinline__ const float* A_of(int k) const {
    return p.weights.A + weight_at(k, sizes.states, 0);
  }
  __device__ __forceinline__ float skip_of(int k) const {
    return active ? p.weights.skip[weight_at(k, 1, 0)] : 0.0f;
  }
};

// ---- pass 1: boundaries ---------------------------------------------------------------------------------------------

template <bool kReversed, bool kWithCarry, class T, class Walk>
__device__ __forceinline__ void core_boundary(const CoreBlock<T, Walk>& block, int tile, const float (&u)[kTile],
                                              const float (&grad_y)[kTile]) {
  const int k = block.p.directions[kReversed];
  float delta[kTile];
  block.load_delta(k, tile, delta);
  states_boundary<kReversed, kWithCarry>(block, block.shared.states, block.A_of(k), u, delta, grad_y,
                                         block.B_of(k, tile), block.C_of(k, tile),
                                         block.boundaries(block.p.boundaries, k, tile));
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

// ---- pass 3, forward ------------------------------------------------------------------------------------------------

template <bool kReversed, class T, class Walk>
__device__ __forceinline__ void core_forward(const CoreBlock<T, Walk>& block, int tile, const float (&u)[kTile],
                                             float (&y)[kTile]) {
  const int k = block.p.directions[kReversed];
  float delta[kTile];
  block.load_delta(k, tile, delta);
  const float skip = block.skip_of(k);
#pragma unroll
  for (int t = 0; t < kTile; ++t) y[t] += skip * u[t];
  states_forward<kReversed>(block, block.shared.states, block.A_of(k),
                            block.boundaries(block.p.boundaries, k, tile).state, u, delta, block.B_of(k, tile),
                            block.C_of(k, tile), y);
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
    const int inside = block.active ? block.valid(tile) : 0;
#pragma unroll
    for (int t = 0; t < kTile; ++t) {
      if (t >= inside) continue;
      p.walk.store_output(block.image, block.position(tile, t), block.place(tile, t), block.channel, y[t]);
    }
  }
}

// ---- pass 3, backward -----------------------------------------------------------------------------------------------

/// Where a block leaves sums that other blocks have a part in.
struct CoreSums {
  float* projection;  ///< (channel blocks, batch, length, K, R + 2N), rows as Walk::gradient_row says
  float* weights;     ///< (batch, chunks, PackedScanGradients::width)
};

template <class T, class Walk>
struct CoreBackwardBlock : CoreBlock<T, Walk> {
  ChannelSums& sums;
  float* grad_projection;  ///< (batch, length, K, R + 2N), this channel block's
  PackedScanGradients grad_weights;

  __device__ __forceinline__ CoreBackwardBlock(const CoreScan<T, Walk>& scan, CoreShared<Walk::kTokens>& memory,
                                               ChannelSums& sums_memory, const CoreSums& out)
      : CoreBlock<T, Walk>(scan, memory),
        sums(sums_memory),
        grad_projection(out.projection + blockIdx.y * scan.sizes.batch * scan.sizes.length * row_width()),
        grad_weights(scan.shape, out.weights + blockIdx.x * PackedScanGradients::width(scan.shape)) {}

  __device__ __forceinline__ int row_width() const { return this->sizes.directions * this->projections; }

  /// Takes sums over the block's channels for direction k's projections from number `first` on.
  __device__ __forceinline__ auto store_projections(int k, int tile, int first) const {
    return [this, tile, to = grad_projection + k * this->projections + first](int t, int c, float sum) {
      const std::int64_t row = this->p.walk.gradient_row(this->image, this->position(tile, t), this->place(tile, t));
      to[row * row_width() + c] = sum;
    };
  }
};

/// Backward of load_delta: takes grad_x, the gradient of Δ's pre-activation.
///   ∂δ_r = Σ_d ∂x dt[r],  ∂dt[r] += Σ_t ∂x δ_r,  ∂dt_bias += Σ_t ∂x
template <class T, class Walk>
__device__ __forceinline__ void delta_backward(const CoreBackwardBlock<T, Walk>& block, int k, int tile,
                                               const float (&grad_x)[kTile]) {
  const int rank = block.rank;
  float grad_bias = 0;
#pragma unroll
  for (int t = 0; t < kTile; ++t) grad_bias += grad_x[t];
  if (block.active) accumulate(block.grad_weights.dt_bias + block.weight_at(k, 1, 0), grad_bias, tile);

  for (int first = 0; first < rank; first += kSlabColumns) {
    // One slab is still staged from load_delta.
    const int count = rank > kSlabColumns ? block.stage_rank(k, tile, first) : rank;
    for (int pair = 0; pair < count; pair += 2) {
      float products[2 * kTile];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const bool inside = block.active && pair + half < count;
        const std::int64_t at = block.weight_at(k, rank, first + pair + half);
        const float weight = inside ? block.p.weights.dt[at] : 0.0f;
        float column[kTile], grad_weight = 0;
        read_column(block.shared.rank, pair + half, column);
#pragma unroll
        for (int t = 0; t < kTile; ++t) {
          products[half * kTile + t] = grad_x[t] * weight;
          grad_weight += grad_x[t] * column[t];
        }
        if (inside) accumulate(block.grad_weights.dt + at, grad_weight, tile);
      }
      sum_columns(block.sums, pair, pair + 1, products);
    }
    __syncthreads();
    store_sums(block.sums, 0, count, block.valid(tile), block.store_projections(k, tile, first));
    __syncthreads();
  }
}

template <bool kReversed, class T, class Walk>
__device__ __forceinline__ void core_backward(const CoreBackwardBlock<T, Walk>& block, int tile,
                                              const float (&u)[kTile], const float (&grad_y)[kTile],
                                              float (&grad_u)[kTile]) {
  const int k = block.p.directions[kReversed], rank = block.rank, states = block.sizes.states;
  float delta[kTile], grad_delta[kTile] = {};
  block.load_delta(k, tile, delta);

  const float skip = block.skip_of(k);
  float grad_skip = 0;
#pragma unroll
  for (int t = 0; t < kTile; ++t) {
    grad_u[t] += skip * grad_y[t];
    grad_skip += grad_y[t] * u[t];
  }
  if (block.active) accumulate(block.grad_weights.skip + block.weight_at(k, 1, 0), grad_skip, tile);

  states_backward<kReversed>(block, tile, block.shared.states, block.sums, block.A_of(k),
                             block.boundaries(block.p.boundaries, k, tile), u, delta, grad_y, block.B_of(k, tile),
                             block.C_of(k, tile), block.store_projections(k, tile, rank),
                             block.store_projections(k, tile, rank + states), grad_u, grad_delta,
                             block.grad_weights.A + block.weight_at(k, states, 0));
#pragma unroll
  for (int t = 0; t < kTile; ++t) grad_delta[t] *= softplus_gradient(delta[t]);
  delta_backward(block, k, tile, grad_delta);
}

// All gradients of both directions along an order, but for sums over blocks. Grid and block as core_boundaries_kernel.
//   x, projection, grad_z, weights, boundaries: as in CoreScan; out: as in CoreSums; ∂u: as the Walk says
template <class T, class Walk>
__global__ void __launch_bounds__(kScanThreads, kBackwardBlocks)
    core_backward_kernel(CoreScan<T, Walk> p, CoreSums out) {
  __shared__ CoreShared<Walk::kTokens> shared;
  __shared__ ChannelSums sums;
  const CoreBackwardBlock<T, Walk> block(p, shared, sums, out);
  for (int tile = 0; tile < block.tiles(); ++tile) {
    float u[kTile], grad_y[kTile], grad_u[kTile] = {};
    block.load_u(tile, u);
    block.load_grad_y(tile, grad_y);
    core_backward<false>(block, tile, u, grad_y, grad_u);
    core_backward<true>(block, tile, u, grad_y, grad_u);
    const int inside = block.active ? block.valid(tile) : 0;
#pragma unroll
    for (int t = 0; t < kTile; ++t) {
      if (t >= inside) continue;
      p.walk.store_grad_u(block.image, block.position(tile, t), block.place(tile, t), block.channel, grad_u[t]);
    }
  }
}

// ---- launchers ------------------------------------------------------------------------------------------------------

/// What both launchers take: the contracts' inputs.
template <class T>
struct CoreInputs {
  ScanShape shape;
  ScanSizes sizes;
  const T* x;           ///< (batch, length, D)
  const T* projection;  ///< (batch, length, K, R + 2N)
  ScanWeights<T> weights;

  CoreInputs(const ScanShape& s, std::int64_t batch, std::int64_t length, const T* map, const T* projections,
             const ScanWeights<T>& w)
      : shape(s),
        sizes(batch, length, s.directions, s.channels, s.states),
        x(map),
        projection(projections),
        weights(w) {
    QM_CHECK(s.directions * s.projection() <= 0x7fffffff, ShapeError, "scan: rank ", s.rank,
             " is beyond the CUDA kernels");
  }
};

/// Passes 1 and 2 over all orders. `scan_of(order)` makes the CoreScan of one.
template <class ScanOf>
void find_boundaries(const Stream& stream, const ScanSizes& sizes, const Boundaries& boundaries, ScanOf scan_of) {
  for (int order = 0; order < sizes.directions / 2; ++order) {
    if (boundaries.carry) {
      core_boundaries_kernel<true><<<sizes.grid(), sizes.threads, 0, native(stream)>>>(scan_of(order));
    } else {
      core_boundaries_kernel<false><<<sizes.grid(), sizes.threads, 0, native(stream)>>>(scan_of(order));
    }
    check_launch("core_boundaries");
  }
  combine_tiles(stream, sizes, sizes.directions / 2, boundaries);
}

template <class T, class Walk>
CoreScan<T, Walk> core_scan_of(const CoreInputs<T>& in, int order, const Walk& walk, const PackedScanWeights& weights,
                               const Boundaries& boundaries, const T* grad_z, std::int64_t out_length) {
  const int opposite = order + in.sizes.directions / 2;
  return {in.sizes, in.shape, out_length, {order, opposite}, walk, in.x, in.projection, grad_z, weights, boundaries};
}

/// make_walk(order) describes orders 0 … K/2 − 1. Order o's results are stored before those of o + 1.
template <class T, class MakeWalk>
void core_scan_forward(const Stream& stream, const CoreInputs<T>& in, MakeWalk make_walk) {
  const PackedWeightsScratch weights(stream, in.shape, in.weights);
  const BoundaryScratch boundaries(stream, in.sizes, false);
  const auto scan_of = [&](int order) {
    return core_scan_of<T>(in, order, make_walk(order), weights.packed(), boundaries.all(), nullptr, 0);
  };
  find_boundaries(stream, in.sizes, boundaries.all(), scan_of);
  for (int order = 0; order < in.sizes.directions / 2; ++order) {
    core_forward_kernel<<<in.sizes.grid(), in.sizes.threads, 0, native(stream)>>>(scan_of(order));
    check_launch("core_forward");
  }
}

/// grad_z (batch, out_length, D); grad_projection (batch, length, K, R + 2N) assigned, in the rows that the walk says,
/// as floats or as T; the weights' gradients accumulated.
template <class T, class Projection, class MakeWalk>
void core_scan_backward(const Stream& stream, const CoreInputs<T>& in, const T* grad_z, std::int64_t out_length,
                        Projection* grad_projection, const ScanWeightGradients<T>& grad_weights, MakeWalk make_walk) {
  const ScanSizes& sizes = in.sizes;
  const PackedWeightsScratch weights(stream, in.shape, in.weights);
  const BoundaryScratch boundaries(stream, sizes, true);
  const auto scan_of = [&](int order) {
    return core_scan_of<T>(in, order, make_walk(order), weights.packed(), boundaries.all(), grad_z, out_length);
  };
  find_boundaries(stream, sizes, boundaries.all(), scan_of);

  const std::int64_t projections = sizes.sequences() * sizes.length * in.shape.projection();
  const std::int64_t rows = sizes.batch * sizes.chunks, width = PackedScanGradients::width(in.shape);
  const Scratch<float> projection_sums(stream, sizes.channel_blocks * projections), weight_sums(stream, rows * width);
  for (int order = 0; order < sizes.directions / 2; ++order) {
    core_backward_kernel<<<sizes.grid(), sizes.threads, 0, native(stream)>>>(
        scan_of(order), CoreSums{projection_sums.data(), weight_sums.data()});
    check_launch("core_backward");
  }
  sum_channel_blocks(stream, sizes.channel_blocks, projections, projection_sums.data(), grad_projection);
  const TokenBlockSum sums(stream, rows, width, weight_sums.data());
  add_weight_gradients(stream, in.shape, weights.packed(), sums.data(), grad_weights);
}

}  // namespace qm::cuda
