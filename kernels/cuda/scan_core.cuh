// The recurrence of kernels/selective_scan.h on CUDA, shared by selective_scan, quad_scan and cross_scan.
//
// A sequence is cut into tiles of kTile tokens. With a_l = exp(Δ_l A) and g_l the gradient of h_l, a tile of a channel
// and state turns what comes in from either side into what goes out on the other:
//
//   h_last  = P h_before + S     P = Π_l a_l,  S = Σ_l (Π_{j>l} a_j) Δ_l B_l u_l
//   c_first = P c_after  + E     c_l = a_l g_l, what the loss says of h_{l−1} by way of h_l;  g_l = C_l ∂y_l + c_{l+1}
//                                E = Σ_l (Π_{j≤l} a_j) C_l ∂y_l
//
// So three passes scan a sequence of any length with all tiles at work:
//   1. boundaries: every tile finds its P, S and E on its own;
//   2. combine:    one walk over the tiles replaces S by h_before and E by c_after;
//   3. apply:      every tile knows what comes in, and none waits for another.
//
// Threads are channels, so neighbouring threads read neighbouring numbers; what channels share (B, C and the like) is
// staged in shared memory, and a thread keeps its channel's numbers of a tile in registers. Positions beyond the end of
// the sequence take part with Δ = u = ∂y = 0, B = C = 0: they change no state and send nothing back. A reversed
// direction runs from the last position to the first, over the same tiles. All arithmetic is in float.
#pragma once

#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/selective_scan.h"

namespace qm::cuda {

inline constexpr int kTile = 16;
inline constexpr int kTilesPerBlock = 8;
inline constexpr int kBlockTokens = kTile * kTilesPerBlock;  ///< the chunk of a sequence that a block works through
inline constexpr int kScanThreads = 128;                     ///< at most, a block: one a channel
inline constexpr int kBackwardBlocks = 3;                    ///< a multiprocessor: what registers allow without spills
inline constexpr int kScanWarps = kScanThreads / kWarp;
inline constexpr int kSlabColumns = 32;
inline constexpr int kSlabStates = kSlabColumns / 2;  ///< a B and a C each

static_assert(2 * kTile == kWarp, "sum_over_lanes takes two columns of a tile");
static_assert(kTile % 4 == 0, "columns are read four numbers at a time");

// ---- geometry -------------------------------------------------------------------------------------------------------

/// What a scan takes and how it is spread: grid (batch · chunks, channel blocks, …), block (threads). Kept as int,
/// which takes half the registers; offsets are made of them in 64 bits.
struct ScanSizes {
  std::int64_t batch;
  int length, directions, channels, states;
  int tiles, chunks;  ///< a sequence
  int channel_blocks, threads;

  ScanSizes(std::int64_t images, std::int64_t tokens, std::int64_t K, std::int64_t D, std::int64_t N)
      : batch(images),
        length(checked("length", tokens)),
        directions(checked("directions", K)),
        channels(checked("channels", D)),
        states(checked("states", N)),
        tiles(static_cast<int>(ceil_div(length, kTile))),
        chunks(static_cast<int>(ceil_div(length, kBlockTokens))),
        channel_blocks(static_cast<int>(ceil_div(channels, kScanThreads))),
        threads(static_cast<int>(ceil_div(ceil_div(channels, channel_blocks), kWarp) * kWarp)) {}

  dim3 grid(int z = 1) const {
    QM_CHECK(channel_blocks <= 0xffff && z <= 0xffff, ShapeError, "scan: ", channels, " channels and ", directions,
             " directions are beyond a grid");
    return dim3(blocks_for(batch * chunks, 1), static_cast<unsigned>(channel_blocks), static_cast<unsigned>(z));
  }

  /// Sequences of the whole batch, and the numbers of Boundaries each.
  QM_HOST_DEVICE std::int64_t sequences() const { return batch * directions; }
  QM_HOST_DEVICE std::int64_t boundaries() const { return static_cast<std::int64_t>(tiles) * states * channels; }

 private:
  static int checked(const char* what, std::int64_t size) {
    QM_CHECK(size <= 0x7fffffff - kBlockTokens, ShapeError, "scan: ", what, " ", size, " is beyond the CUDA kernels");
    return static_cast<int>(size);
  }
};

/// Where a tile keeps what crosses its ends, for all channels and states: (batch, directions, tiles, states, channels).
struct Boundaries {
  float* decay;  ///< P
  float* state;  ///< S, then h_before
  float* carry;  ///< E, then c_after; null in a forward pass
};

/// What a block of that grid works on, and the channel of a thread (which may lie beyond the last: not active).
struct ScanBlock {
  const ScanSizes& sizes;
  std::int64_t image;
  int chunk, channel;
  bool active;

  __device__ __forceinline__ explicit ScanBlock(const ScanSizes& s)
      : sizes(s),
        image(blockIdx.x / static_cast<unsigned>(s.chunks)),
        chunk(static_cast<int>(blockIdx.x % static_cast<unsigned>(s.chunks))),
        channel(static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x)),
        active(channel < s.channels) {}

  __device__ __forceinline__ int tiles() const { return min(kTilesPerBlock, sizes.tiles - chunk * kTilesPerBlock); }
  __device__ __forceinline__ int position(int tile, int t) const { return chunk * kBlockTokens + tile * kTile + t; }
  /// Tokens of a tile that lie within the sequence.
  __device__ __forceinline__ int valid(int tile) const { return min(kTile, sizes.length - position(tile, 0)); }

  /// Those of a tile, beginning at the thread's channel.
  __device__ __forceinline__ Boundaries boundaries(const Boundaries& all, int k, int tile) const {
    const std::int64_t sequence = image * sizes.directions + k;
    const std::int64_t row = (sequence * sizes.tiles + chunk * kTilesPerBlock + tile) * sizes.states;
    const std::int64_t at = row * sizes.channels + channel;
    return {all.decay + at, all.state + at, all.carry ? all.carry + at : nullptr};
  }
};

__device__ __forceinline__ int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarp;
}
__device__ __forceinline__ int warp_index() {
  return static_cast<int>(threadIdx.x) / kWarp;
}
__device__ __forceinline__ int warps_in_block() {
  return static_cast<int>(blockDim.x) / kWarp;
}

/// Where in a tile a direction's step lies.
template <bool kReversed>
__device__ __forceinline__ constexpr int token_of_step(int step) {
  return kReversed ? kTile - 1 - step : step;
}

__device__ __forceinline__ float softplus(float x) {
  return x > static_cast<float>(kSoftplusThreshold) ? x : log1pf(expf(x));
}

/// softplus'(x) from Δ = softplus(x): e^Δ = 1 + eˣ, so 1/(1 + e⁻ˣ) = 1 − e^−Δ. 0 where Δ = 0, beyond the sequence.
__device__ __forceinline__ float softplus_gradient(float delta) {
  return -expm1f(-delta);
}

// ---- what the channels of a block share ----------------------------------------------------------------------------

/// Columns of a tile's numbers that all channels need. A column's four spare numbers keep it aligned and spread the
/// columns over the banks.
struct Slab {
  alignas(16) float column[kSlabColumns][kTile + 4];
};

/// slab.column[first + c][t] = load(t, c) for c < count. The caller puts barriers before and after.
template <class Load>
__device__ __forceinline__ void stage(Slab& slab, int first, int count, Load load) {
  for (int t = warp_index(); t < kTile; t += warps_in_block()) {
    for (int c = lane_index(); c < count; c += kWarp) slab.column[first + c][t] = load(t, c);
  }
}

__device__ __forceinline__ void read_column(const Slab& slab, int c, float (&column)[kTile]) {
#pragma unroll
  for (int t = 0; t < kTile; t += 4) {
    const float4 four = *reinterpret_cast<const float4*>(&slab.column[c][t]);
    column[t] = four.x;
    column[t + 1] = four.y;
    column[t + 2] = four.z;
    column[t + 3] = four.w;
  }
}

/// Sums over the channels of a warp, of a slab's columns. The spare number spreads the columns over the banks.
struct ChannelSums {
  float column[kScanWarps][kSlabColumns][kTile + 1];
};

/// Lane i gets the sum of values[i] over all lanes: each round hands half of what is left to the lane across and adds
/// what that one hands back, 31 exchanges in all. Overwrites `values`.
template <int kHalf = kWarp / 2>
__device__ __forceinline__ float sum_over_lanes(float (&values)[kWarp]) {
  const bool upper = lane_index() & kHalf;
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const float kept = upper ? values[kHalf + i] : values[i];
    const float sent = upper ? values[i] : values[kHalf + i];
    values[i] = kept + __shfl_xor_sync(0xffffffff, sent, kHalf);
  }
  if constexpr (kHalf > 1) {
    return sum_over_lanes<kHalf / 2>(values);
  } else {
    return values[0];
  }
}

/// Sums two columns of a tile over the warp's channels: products (2, kTile) into the columns `first` and `second`.
__device__ __forceinline__ void sum_columns(ChannelSums& sums, int first, int second, float (&products)[2 * kTile]) {
  const float sum = sum_over_lanes(products);
  const int lane = lane_index();
  sums.column[warp_index()][lane < kTile ? first : second][lane % kTile] = sum;
}

/// store(t, c, Σ over the block's channels) for columns first + c, c < count, and t < valid. The caller puts barriers
/// before and after.
template <class Store>
__device__ __forceinline__ void store_sums(const ChannelSums& sums, int first, int count, int valid, Store store) {
  for (int t = warp_index(); t < valid; t += warps_in_block()) {
    for (int c = lane_index(); c < count; c += kWarp) {
      float sum = 0;
      for (int warp = 0; warp < warps_in_block(); ++warp) sum += sums.column[warp][first + c][t];
      store(t, c, sum);
    }
  }
}

// ---- one state of a tile -------------------------------------------------------------------------------------------

/// P, S and E of the maths above.
struct TileBoundary {
  float decay = 1, state = 0, carry = 0;
};

template <bool kReversed, bool kWithCarry>
__device__ __forceinline__ TileBoundary tile_boundary(const float (&u)[kTile], const float (&delta)[kTile],
                                                      const float (&grad_y)[kTile], float A, const float (&B)[kTile],
                                                      const float (&C)[kTile]) {
  TileBoundary tile;
#pragma unroll
  for (int step = 0; step < kTile; ++step) {
    const int t = token_of_step<kReversed>(step);
    const float a = expf(delta[t] * A);
    tile.decay *= a;
    tile.state = a * tile.state + delta[t] * B[t] * u[t];
    if constexpr (kWithCarry) tile.carry += tile.decay * (C[t] * grad_y[t]);
  }
  return tile;
}

/// y += C h over the tile.
template <bool kReversed>
__device__ __forceinline__ void tile_forward(const float (&u)[kTile], const float (&delta)[kTile], float A,
                                             const float (&B)[kTile], const float (&C)[kTile], float h,
                                             float (&y)[kTile]) {
#pragma unroll
  for (int step = 0; step < kTile; ++step) {
    const int t = token_of_step<kReversed>(step);
    h = expf(delta[t] * A) * h + delta[t] * B[t] * u[t];
    y[t] += C[t] * h;
  }
}

/// Adds to grad_u and grad_delta (of Δ, after softplus); products = this channel's terms of (∂B | ∂C); returns ∂A.
template <bool kReversed>
__device__ __forceinline__ float tile_backward(const float (&u)[kTile], const float (&delta)[kTile],
                                               const float (&grad_y)[kTile], float A, const float (&B)[kTile],
                                               const float (&C)[kTile], float h_before, float carry,
                                               float (&grad_u)[kTile], float (&grad_delta)[kTile],
                                               float (&products)[2 * kTile]) {
  float h[kTile], a[kTile];
#pragma unroll
  for (int step = 0; step < kTile; ++step) {
    const int t = token_of_step<kReversed>(step);
    a[t] = expf(delta[t] * A);
    h[t] = a[t] * (step == 0 ? h_before : h[token_of_step<kReversed>(step - 1)]) + delta[t] * B[t] * u[t];
  }
  float grad_A = 0;
#pragma unroll
  for (int step = kTile - 1; step >= 0; --step) {
    const int t = token_of_step<kReversed>(step);
    const float g = carry + C[t] * grad_y[t];
    carry = g * a[t];
    const float from_before = carry * (step == 0 ? h_before : h[token_of_step<kReversed>(step - 1)]);
    products[t] = g * delta[t] * u[t];
    products[kTile + t] = grad_y[t] * h[t];
    grad_u[t] += g * delta[t] * B[t];
    grad_delta[t] += from_before * A + g * B[t] * u[t];
    grad_A += from_before * delta[t];
  }
  return grad_A;
}

// ---- all states of a tile -------------------------------------------------------------------------------------------
// A thread finds the numbers of its channel and state n at [n · channels] of the pointers it is given. load_B(t, n) and
// load_C(t, n) read a token's; 0 beyond the end of the sequence.

template <class LoadB, class LoadC>
__device__ __forceinline__ int stage_states(Slab& slab, int first, int states, LoadB load_B, LoadC load_C) {
  const int count = min(kSlabStates, states - first);
  __syncthreads();
  stage(slab, 0, count, [&](int t, int c) { return load_B(t, first + c); });
  stage(slab, kSlabStates, count, [&](int t, int c) { return load_C(t, first + c); });
  __syncthreads();
  return count;
}

/// Pass 1.
template <bool kReversed, bool kWithCarry, class LoadB, class LoadC>
__device__ __forceinline__ void states_boundary(const ScanBlock& block, Slab& slab, const float* A,
                                                const float (&u)[kTile], const float (&delta)[kTile],
                                                const float (&grad_y)[kTile], LoadB load_B, LoadC load_C,
                                                const Boundaries& to) {
  for (int first = 0; first < block.sizes.states; first += kSlabStates) {
    const int count = stage_states(slab, first, block.sizes.states, load_B, load_C);
    for (int n = 0; n < count; ++n) {
      if (!block.active) continue;
      const std::int64_t at = static_cast<std::int64_t>(first + n) * block.sizes.channels;
      float B[kTile], C[kTile];
      read_column(slab, n, B);
      read_column(slab, kSlabStates + n, C);
      const TileBoundary tile = tile_boundary<kReversed, kWithCarry>(u, delta, grad_y, A[at], B, C);
      to.decay[at] = tile.decay;
      to.state[at] = tile.state;
      if constexpr (kWithCarry) to.carry[at] = tile.carry;
    }
  }
}

/// Pass 3, forward: y += Σ_n C h.
template <bool kReversed, class LoadB, class LoadC>
__device__ __forceinline__ void states_forward(const ScanBlock& block, Slab& slab, const float* A,
                                               const float* h_before, const float (&u)[kTile],
                                               const float (&delta)[kTile], LoadB load_B, LoadC load_C,
                                               float (&y)[kTile]) {
  for (int first = 0; first < block.sizes.states; first += kSlabStates) {
    const int count = stage_states(slab, first, block.sizes.states, load_B, load_C);
    for (int n = 0; n < count; ++n) {
      if (!block.active) continue;
      const std::int64_t at = static_cast<std::int64_t>(first + n) * block.sizes.channels;
      float B[kTile], C[kTile];
      read_column(slab, n, B);
      read_column(slab, kSlabStates + n, C);
      tile_forward<kReversed>(u, delta, A[at], B, C, h_before[at], y);
    }
  }
}

/// A block's own sums over its tiles: the first of them assigns.
__device__ __forceinline__ void accumulate(float* sum, float value, int tile) {
  *sum = tile == 0 ? value : *sum + value;
}

/// Pass 3, backward: adds to grad_u and grad_delta; store_B(t, n, sum) and store_C take the sums over the block's
/// channels for every t within the sequence. Ends with a barrier.
template <bool kReversed, class LoadB, class LoadC, class StoreB, class StoreC>
__device__ __forceinline__ void states_backward(const ScanBlock& block, int tile, Slab& slab, ChannelSums& sums,
                                                const float* A, const Boundaries& from, const float (&u)[kTile],
                                                const float (&delta)[kTile], const float (&grad_y)[kTile], LoadB load_B,
                                                LoadC load_C, StoreB store_B, StoreC store_C, float (&grad_u)[kTile],
                                                float (&grad_delta)[kTile], float* grad_A) {
  for (int first = 0; first < block.sizes.states; first += kSlabStates) {
    const int count = stage_states(slab, first, block.sizes.states, load_B, load_C);
    for (int n = 0; n < count; ++n) {
      const std::int64_t at = static_cast<std::int64_t>(first + n) * block.sizes.channels;
      float B[kTile], C[kTile], products[2 * kTile];
      read_column(slab, n, B);
      read_column(slab, kSlabStates + n, C);
      // A channel beyond the last joins its warp's sums with zeros.
      const float grad = tile_backward<kReversed>(u, delta, grad_y, block.active ? A[at] : 0.0f, B, C,
                                                  block.active ? from.state[at] : 0.0f,
                                                  block.active ? from.carry[at] : 0.0f, grad_u, grad_delta, products);
      if (block.active) accumulate(grad_A + at, grad, tile);
      sum_columns(sums, n, kSlabStates + n, products);
    }
    __syncthreads();
    const int valid = block.valid(tile);
    store_sums(sums, 0, count, valid, [&](int t, int c, float sum) { store_B(t, first + c, sum); });
    store_sums(sums, kSlabStates, count, valid, [&](int t, int c, float sum) { store_C(t, first + c, sum); });
    __syncthreads();
  }
}

// ---- pass 2 ---------------------------------------------------------------------------------------------------------

inline constexpr int kTilesAhead = 8;  ///< tiles whose numbers are on their way while the walk goes on

/// out ← what comes into each tile, in walking order: in_0 = 0, in_{i+1} = decay_i in_i + out_i. Tile i of the walk
/// lies at [i · stride], which may be negative.
__device__ __forceinline__ void combine_walk(int tiles, std::int64_t stride, const float* decay, float* out) {
  float in = 0;
  for (int first = 0; first < tiles; first += kTilesAhead) {
    float decays[kTilesAhead], outs[kTilesAhead];
#pragma unroll
    for (int i = 0; i < kTilesAhead; ++i) {
      const bool inside = first + i < tiles;
      decays[i] = inside ? decay[(first + i) * stride] : 1.0f;
      outs[i] = inside ? out[(first + i) * stride] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kTilesAhead; ++i) {
      if (first + i < tiles) out[(first + i) * stride] = in;
      in = decays[i] * in + outs[i];
    }
  }
}

// state ← h_before and, unless null, carry ← c_after. Directions from `first_reversed` on run over the tiles backwards.
// Grid (sequences · width / kBlock rounded up), a thread one channel and state of a sequence; width = states ·
// channels.
//   boundaries (batch, directions, tiles, states, channels)
static __global__ void combine_tiles_kernel(std::int64_t sequences, int directions, int first_reversed, int tiles,
                                            std::int64_t width, Boundaries boundaries) {
  const std::int64_t thread = global_thread();
  if (thread >= sequences * width) return;
  const std::int64_t sequence = thread / width;
  const std::int64_t front = sequence * tiles * width + thread % width;
  const std::int64_t back = front + (tiles - 1) * width;
  const bool reversed = sequence % directions >= first_reversed;
  const std::int64_t first = reversed ? back : front, last = reversed ? front : back;
  const std::int64_t stride = reversed ? -width : width;
  combine_walk(tiles, stride, boundaries.decay + first, boundaries.state + first);
  if (boundaries.carry) combine_walk(tiles, -stride, boundaries.decay + last, boundaries.carry + last);
}

inline void combine_tiles(const Stream& stream, const ScanSizes& s, int first_reversed, const Boundaries& boundaries) {
  const std::int64_t width = static_cast<std::int64_t>(s.states) * s.channels;
  combine_tiles_kernel<<<blocks_for(s.sequences() * width), kBlock, 0, native(stream)>>>(
      s.sequences(), s.directions, first_reversed, s.tiles, width, boundaries);
  check_launch("combine_tiles");
}

/// Boundaries for the launches of one call.
class BoundaryScratch {
 public:
  BoundaryScratch(const Stream& stream, const ScanSizes& s, bool with_carry)
      : decay_(stream, s.sequences() * s.boundaries()),
        state_(stream, s.sequences() * s.boundaries()),
        carry_(stream, with_carry ? s.sequences() * s.boundaries() : 0),
        all_{decay_.data(), state_.data(), with_carry ? carry_.data() : nullptr} {}

  const Boundaries& all() const { return all_; }

 private:
  Scratch<float> decay_, state_, carry_;
  Boundaries all_;
};

// ---- sums over blocks -----------------------------------------------------------------------------------------------

// out[i] = Σ_block x[block][i], in order. Grid (width / kBlock rounded up), a thread a column.
//   x (blocks, width); out (width)
template <class T>
__global__ void sum_channel_blocks_kernel(std::int64_t blocks, std::int64_t width, const float* x, T* out) {
  const std::int64_t i = global_thread();
  if (i >= width) return;
  float sum = 0;
  for (std::int64_t block = 0; block < blocks; ++block) sum += x[block * width + i];
  out[i] = from_real<T>(sum);
}

/// Ends the sums over channels that every block has made of its own: x (channel blocks, width) → out (width).
template <class T>
void sum_channel_blocks(const Stream& stream, std::int64_t blocks, std::int64_t width, const float* x, T* out) {
  sum_channel_blocks_kernel<<<blocks_for(width), kBlock, 0, native(stream)>>>(blocks, width, x, out);
  check_launch("sum_channel_blocks");
}

/// The sum, in fixed order, of the rows that every block of tokens has made of its parameters' gradients.
class TokenBlockSum {
 public:
  TokenBlockSum(const Stream& stream, std::int64_t rows, std::int64_t width, const float* x) : sum_(stream, width) {
    QM_CUDA_CHECK(cudaMemsetAsync(sum_.data(), 0, static_cast<std::size_t>(width) * sizeof(float), native(stream)));
    add_column_sums(stream, rows, width, x, sum_.data());
  }
  const float* data() const { return sum_.data(); }

 private:
  Scratch<float> sum_;
};

}  // namespace qm::cuda
