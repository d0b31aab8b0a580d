// Sweeps: the scans of a map's tokens with bfloat16 activations and one state, what quad_scan and cross_scan run in
// training. (kernels/cuda/core_scan.cuh takes every other case.)
//
// A block holds the channels of one image and walks their whole sequence, tile by tile of 16 tokens: half of its warps
// from the front, the other half from the back. Nothing is combined afterwards, since a state never leaves its thread:
// a thread is a channel. Both directions' results are added where they meet: until the middle a direction stores
// what it has; from there on it finds the other's, adds its own and stores the sum. So every result is one of two
// numbers added in either order: the same bits in every run.
//
// A tile of a warp (16 tokens × 32 channels) is copied to shared memory one tile ahead. The pre-activation of Δ is a
// product of the token's δ (16 × R) with the channel's weights, made by the tensor cores, as are backward's sums over
// channels (∂δ, ∂B, ∂C) and over tokens (∂dt_weight).
//
// Exponentials are powers of two. With Δ' = Δ / ln 2 = log₂(1 + 2^{x log₂ e}):
//   exp(Δ A) = 2^{Δ' A},   Δ B u = Δ' (ln 2 · B) u,   sigmoid(x) = softplus'(x) = 1 − 2^{−Δ'}
#pragma once

#include "kernels/cuda/scan_core.cuh"
#include "kernels/cuda/scan_weights.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace qm::cuda {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
inline constexpr int kChunk = 8;  ///< numbers a 16-byte access

// ---- what is swept --------------------------------------------------------------------------------------------------

/// The tokens at the positions of a sequence.
struct SweepOrder {
  const int* first;     ///< (images, length) a token; −1 where there is none
  const int* second;    ///< (images, length) another one there, or −1; null = nowhere
  std::int64_t stride;  ///< between images: length, or 0 where all share one order
};

/// Two directions along one order. Maps are (batch, length, D), rows of them D numbers.
struct Sweep {
  std::int64_t batch;
  int length, tiles, channels, rank, directions;
  int along[2];  ///< the directions that go forwards and backwards
  SweepOrder order;
  const bfloat16* x;           ///< (batch, length, D), by token
  const bfloat16* projection;  ///< (batch, length, K, R + 2), by token
  ScanWeights<bfloat16> weights;
  float*
      states;  ///< (batch, K, tiles, D): the state before each tile; forward writes it unless null, backward reads it
  bool by_token;  ///< whether results lie by token (then every position holds one token), or else by position
  bool adds;      ///< whether results are added to what is there
  int warps;      ///< a direction

  // The map after the merge: cropped where it was padded.
  int width, out_height, out_width;

  __device__ __forceinline__ std::int64_t out_length() const {
    return static_cast<std::int64_t>(out_height) * out_width;
  }
  /// Where a token lies in the cropped map, or −1.
  __device__ __forceinline__ int output_of(int token) const {
    if (by_token || token < 0) return token;
    const int i = token / width, j = token % width;
    return i < out_height && j < out_width ? i * out_width + j : -1;
  }
};

/// What a kernel is compiled for.
template <int kWarps_, int kSteps_, int kColumnTiles_, int kProjections_>
struct SweepKind {
  static constexpr int kWarps = kWarps_;              ///< a direction, at most
  static constexpr int kSteps = kSteps_;              ///< of 16 that cover R
  static constexpr int kColumnTiles = kColumnTiles_;  ///< of 8 that cover R + 2
  static constexpr int kProjections = kProjections_;  ///< of a tile's 16 · (R + 2), that a thread brings, at most
  static constexpr int kRankTiles = 2 * kSteps < kColumnTiles ? 2 * kSteps : kColumnTiles;  ///< of 8 that cover R
  static constexpr int kThreads = 2 * kWarps * kWarp;
  /// Blocks of backward that a multiprocessor's registers and shared memory are to hold at once.
  static constexpr int kBackwardBlocks = kThreads <= 192 ? 2 : 1;
};

// ---- shared memory --------------------------------------------------------------------------------------------------

/// A warp's tile of one map.
struct SweepTile {
  alignas(16) bfloat16 row[kTile][kWarp];
};

/// What a direction's warps share of a tile of tokens.
template <class Kind>
struct SweepTokens {
  alignas(16) bfloat16 rank[kTile][16 * Kind::kSteps + kChunk];  ///< δ, and a spare chunk that spreads rows over banks
  alignas(16) float B[kTile], C[kTile];                          ///< ln 2 · B, C
};

/// A row of scratch for the pre-activations: 40 numbers apart, so that fragments are written without bank conflicts.
using SweepScratch = float[kTile][kWarp + 8];
/// (channel, token) in rows of 24, for the same reason.
using SweepProduct = bfloat16[kWarp][kTile + 8];

// ---- a warp's place -------------------------------------------------------------------------------------------------

template <bool kReversed>
struct SweepWarp {
  const Sweep& p;
  std::int64_t image;
  int k;              ///< direction
  int warp, lane;     ///< within the direction, within the warp
  int first_channel;  ///< of the warp
  int channel;        ///< of the thread
  bool active;

  __device__ __forceinline__ explicit SweepWarp(const Sweep& sweep)
      : p(sweep),
        image(blockIdx.x),
        k(sweep.along[kReversed]),
        warp(warp_index() - (kReversed ? sweep.warps : 0)),
        lane(lane_index()),
        first_channel((static_cast<int>(blockIdx.y) * sweep.warps + warp) * kWarp),
        channel(first_channel + lane),
        active(channel < sweep.channels) {}

  __device__ __forceinline__ int group_thread() const { return warp * kWarp + lane; }
  __device__ __forceinline__ int group_threads() const { return p.warps * kWarp; }
  __device__ __forceinline__ void group_barrier() const { barrier_of(1 + kReversed, group_threads()); }

  __device__ __forceinline__ const int* first() const { return p.order.first + image * p.order.stride; }
  __device__ __forceinline__ const int* second() const { return p.order.second + image * p.order.stride; }

  // Copies move chunks: a lane takes chunk lane % 4 of rows lane / 4 and lane / 4 + 8 of a tile.
  __device__ __forceinline__ int chunk_row(int half) const { return lane / 4 + 8 * half; }
  __device__ __forceinline__ int chunk_column() const { return lane % 4 * kChunk; }
  __device__ __forceinline__ bool chunk_exists() const { return first_channel + chunk_column() < p.channels; }

  /// The tokens of this lane's two rows; −1 beyond the sequence.
  __device__ __forceinline__ void load_tokens(int tile, int (&token)[2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int position = tile * kTile + chunk_row(half);
      token[half] = tile >= 0 && position < p.length ? first()[position] : -1;
    }
  }
  /// This lane's chunk of row `row` of an image's map (rows, D).
  template <class Map>
  __device__ __forceinline__ Map* chunk_of(Map* map, std::int64_t rows, int row) const {
    return map + (image * rows + row) * p.channels + first_channel + chunk_column();
  }
  __device__ __forceinline__ void copy_rows(SweepTile& to, const bfloat16* map, std::int64_t rows,
                                            const int (&row)[2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bool exists = row[half] >= 0 && chunk_exists();
      copy_async(&to.row[chunk_row(half)][chunk_column()], exists ? chunk_of(map, rows, row[half]) : map, !exists);
    }
  }
  __device__ __forceinline__ void store_rows(const SweepTile& from, bfloat16* map, std::int64_t rows,
                                             const int (&row)[2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (row[half] < 0 || !chunk_exists()) continue;
      *reinterpret_cast<uint4*>(chunk_of(map, rows, row[half])) =
          *reinterpret_cast<const uint4*>(&from.row[chunk_row(half)][chunk_column()]);
    }
  }
  /// Where results of this lane's two rows lie: their tokens, or their positions.
  __device__ __forceinline__ void result_rows(int tile, const int (&token)[2], int (&row)[2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int position = tile * kTile + chunk_row(half);
      row[half] = p.by_token ? token[half] : position < p.length ? position : -1;
    }
  }
  /// Adds the second tokens' rows of a map to a tile that holds the first ones'. `row_of(token)` is −1 for none.
  template <class RowOf>
  __device__ __forceinline__ void add_second(SweepTile& to, const bfloat16* map, std::int64_t rows, int tile,
                                             RowOf row_of) const {
    if (!p.order.second) return;
    const int position = tile * kTile + lane;
    const int row = lane < kTile && position < p.length ? row_of(second()[position]) : -1;
    unsigned left = __ballot_sync(0xffffffffu, row >= 0);
    for (; left; left &= left - 1) {
      const int t = __ffs(static_cast<int>(left)) - 1;
      const std::int64_t from = image * rows + __shfl_sync(0xffffffffu, row, t);
      if (!active) continue;
      to.row[t][lane] = from_real<bfloat16>(to_real(to.row[t][lane]) + to_real(map[from * p.channels + channel]));
    }
  }

  __device__ __forceinline__ float* states_of(int tile) const {
    return p.states + ((image * p.directions + k) * p.tiles + tile) * p.channels + channel;
  }
};

// ---- tokens' projections --------------------------------------------------------------------------------------------

/// Brings (δ | B | C) of one tile after another into shared memory: loaded early, stored once the tile before is done.
template <class Kind>
class SweepProjections {
 public:
  template <bool kReversed>
  __device__ __forceinline__ void load(const SweepWarp<kReversed>& w, int tile) {
    const Sweep& p = w.p;
    const int width = p.rank + 2, stride = p.directions * width;
    const bfloat16* rows = p.projection + w.image * p.length * stride + w.k * width;
#pragma unroll
    for (int i = 0; i < Kind::kProjections; ++i) {
      const int element = w.group_thread() + i * w.group_threads();
      if (element >= kTile * width) continue;
      const int position = tile * kTile + element / width, column = element % width;
      value_[i] = 0;
      if (tile < 0 || position >= p.length) continue;
      const int first = w.first()[position];
      if (first >= 0) value_[i] = to_real(rows[static_cast<std::int64_t>(first) * stride + column]);
      if (!p.order.second) continue;
      const int second = w.second()[position];
      if (second >= 0) value_[i] += to_real(rows[static_cast<std::int64_t>(second) * stride + column]);
    }
  }

  template <bool kReversed>
  __device__ __forceinline__ void store(const SweepWarp<kReversed>& w, SweepTokens<Kind>& to) const {
    const int rank = w.p.rank, width = rank + 2;
#pragma unroll
    for (int i = 0; i < Kind::kProjections; ++i) {
      const int element = w.group_thread() + i * w.group_threads();
      if (element >= kTile * width) continue;
      const int t = element / width, column = element % width;
      if (column < rank) {
        to.rank[t][column] = from_real<bfloat16>(value_[i]);
      } else if (column == rank) {
        to.B[t] = kLn2 * value_[i];
      } else {
        to.C[t] = value_[i];
      }
    }
  }

 private:
  float value_[Kind::kProjections];
};

// ---- Δ --------------------------------------------------------------------------------------------------------------

/// A channel's weight for number r of δ; 0 beyond either.
__device__ __forceinline__ float dt_weight_of(const Sweep& p, int k, int channel, int r) {
  const bool exists = channel < p.channels && r < p.rank;
  return exists ? p.weights.dt_weight[(static_cast<std::int64_t>(k) * p.channels + channel) * p.rank + r] : 0.0f;
}

/// The pre-activations of a tile, times log₂ e and without bias: (16 tokens × R) (R × 32 channels).
template <class Kind>
class SweepDelta {
 public:
  __device__ __forceinline__ SweepDelta(const Sweep& p, int k, int first_channel) {
    const int g = lane_index() / 4, q = lane_index() % 4;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int s = 0; s < Kind::kSteps; ++s) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int r = 16 * s + 2 * q + 8 * i, channel = first_channel + 8 * n + g;
          weight_[n][s].b[i] =
              pack_bf16(kLog2E * dt_weight_of(p, k, channel, r), kLog2E * dt_weight_of(p, k, channel, r + 1));
        }
      }
    }
  }

  /// Fills scratch (16 tokens, 32 channels), for the whole warp to read afterwards.
  __device__ __forceinline__ void fill(const SweepTokens<Kind>& tokens, SweepScratch& scratch) const {
    const int lane = lane_index(), g = lane / 4, q = lane % 4;
    float sum[4][4] = {};
#pragma unroll
    for (int s = 0; s < Kind::kSteps; ++s) {
      FragmentA delta;
      load_matrices(delta.a, &tokens.rank[lane % 16][16 * s + lane / 16 * 8]);
#pragma unroll
      for (int n = 0; n < 4; ++n) multiply_add(sum[n], delta, weight_[n][s]);
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      *reinterpret_cast<float2*>(&scratch[g][8 * n + 2 * q]) = make_float2(sum[n][0], sum[n][1]);
      *reinterpret_cast<float2*>(&scratch[g + 8][8 * n + 2 * q]) = make_float2(sum[n][2], sum[n][3]);
    }
    __syncwarp();
  }

 private:
  FragmentB weight_[4][Kind::kSteps];
};

/// log₂(1 + 2ˣ), to the relative precision of a float where the power is small too.
__device__ __forceinline__ float softplus_base2(float x) {
  const float power = exp2_fast(x);
  const float small = power * (kLog2E + power * (-0.5f * kLog2E + power * (kLog2E / 3)));
  const float large = x > 28.0f ? x : log2_fast(1.0f + power);
  return power < 0.0078125f ? small : large;
}

/// Tokens beyond the sequence: Δ = 0 for them, so that they change no state.
__device__ __forceinline__ void hide_tokens_from(int valid, SweepScratch& scratch) {
  for (int t = valid; t < kTile; ++t) scratch[t][lane_index()] = -1e4f;
}

// ---- launch ---------------------------------------------------------------------------------------------------------

inline int sweep_tiles(std::int64_t length) {
  return static_cast<int>(ceil_div(length, kTile));
}

/// States that a forward sweep leaves for backward: (batch, K, tiles, D).
inline std::int64_t sweep_states(const ScanShape& s, std::int64_t batch, std::int64_t length) {
  return batch * s.directions * sweep_tiles(length) * s.channels;
}

/// Calls body.template operator()<Kind>() with what suits the rank.
template <bool kBackward, class Body>
void with_sweep_kind(std::int64_t rank, Body body) {
  if (rank <= 6) return body.template operator()<SweepKind<6, 1, 1, 2>>();
  if (rank <= 14) return body.template operator()<SweepKind<6, 1, 2, 3>>();
  if (rank <= 30) {
    // Two blocks of six warps on a multiprocessor hide more of backward's waiting than one of eight; forward holds two
    // of eight.
    return body.template operator()<std::conditional_t<kBackward, SweepKind<3, 2, 4, 6>, SweepKind<4, 2, 4, 4>>>();
  }
  body.template operator()<SweepKind<4, 3, 7, 7>>();
}

/// How a scan's channels are spread over blocks.
struct SweepGrid {
  int channel_blocks, warps;

  SweepGrid(std::int64_t channels, int most_warps) {
    const std::int64_t all = ceil_div(channels, kWarp);
    channel_blocks = static_cast<int>(ceil_div(all, most_warps));
    warps = static_cast<int>(ceil_div(all, channel_blocks));
  }
  dim3 grid(std::int64_t batch) const { return dim3(blocks_for(batch, 1), static_cast<unsigned>(channel_blocks)); }
  int threads() const { return 2 * warps * kWarp; }
};

/// Whether the sweeps take a scan of this shape.
inline bool sweeps(const ScanShape& s) {
  if (s.states != 1 || s.rank > 48 || s.channels % kChunk != 0 || s.channels > (1 << 20)) return false;
  bool fits = true;
  const auto check = [&]<class Kind>() {
    fits &= kTile * s.projection() <= Kind::kProjections * SweepGrid(s.channels, Kind::kWarps).warps * kWarp;
  };
  with_sweep_kind<false>(s.rank, check);
  with_sweep_kind<true>(s.rank, check);
  return fits;
}

template <class Kernel, class... Arguments>
void launch_sweep(const char* name, const Stream& stream, Kernel kernel, const SweepGrid& grid, std::int64_t batch,
                  std::size_t shared_bytes, const Arguments&... arguments) {
  QM_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  kernel<<<grid.grid(batch), grid.threads(), shared_bytes, native(stream)>>>(arguments...);
  check_launch(name);
}

}  // namespace qm::cuda
