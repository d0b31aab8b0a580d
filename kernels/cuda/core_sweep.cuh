// Sweeps: the scans of a map's tokens with bfloat16 activations and one state, what quad_scan and cross_scan run in
// training. (kernels/cuda/core_scan.cuh takes every other case.)
//
// A block holds channels of one image after another and walks their whole sequence, tile by tile of 16 tokens: half of
// its warps from the front, the other half from the back. Nothing is combined afterwards, since a state never leaves
// its thread: a thread is a channel. Both directions' results are added where they meet: until the middle a direction
// stores what it has; from there on it finds the other's, adds its own and stores the sum. So every result is one of
// two numbers added in either order: the same bits in every run.
//
// A tile of a warp (16 tokens × 32 channels) is copied to shared memory one tile ahead, its rows in the order in which
// the direction scans them: both directions run the same instructions. The pre-activation of Δ is a product of the
// token's δ (16 × R) with the channel's weights, made by the tensor cores, as are backward's sums over channels
// (∂δ, ∂B, ∂C) and over tokens (∂dt_weight).
//
// Exponentials are powers of two. With Δ' = Δ / ln 2 = log₂(1 + 2^{x log₂ e}):
//   exp(Δ A) = 2^{Δ' A},   Δ B u = Δ' (ln 2 · B) u,   sigmoid(x) = softplus'(x) = 1 − 2^{−Δ'}
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include "kernels/cuda/scan_core.cuh"
#include "kernels/cuda/scan_weights.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/vector.cuh"

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

  bool is_plain() const { return by_token && !order.second; }

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

/// What a kernel is compiled for. kPlain: every position holds one token, and results lie by token.
template <int kWarps_, int kRankTiles_, int kWords_, bool kPlain_ = true>
struct SweepKind {
  static constexpr int kWarps = kWarps_;               ///< a direction, at most
  static constexpr int kRankTiles = kRankTiles_;       ///< of 8 that cover R
  static constexpr int kSteps = (kRankTiles + 1) / 2;  ///< of 16 that cover R
  static constexpr int kWords = kWords_;               ///< of a tile's (δ | B | C), that a thread brings, at most
  static constexpr bool kPlain = kPlain_;
  static constexpr int kTiles = kPlain ? 2 : 3;  ///< that a warp keeps of a map: even, odd, and of second tokens
  static constexpr int kThreads = 2 * kWarps * kWarp;
  /// Blocks that a multiprocessor's registers and shared memory are to hold at once.
  static constexpr int kForwardBlocks = 2;
  static constexpr int kBackwardBlocks = kThreads <= 192 ? 2 : 1;
  using General = SweepKind<kWarps, kRankTiles, kWords, false>;
};

// ---- shared memory --------------------------------------------------------------------------------------------------

/// A warp's tile of one map.
struct SweepTile {
  alignas(16) bfloat16 row[kTile][kWarp];
};

/// What a direction's warps share of a tile of tokens. Its rows have a spare chunk, which spreads them over the banks.
template <class Kind>
struct SweepTokens {
  alignas(16) bfloat16 rank[kTile][16 * Kind::kSteps + kChunk];  ///< δ
  alignas(16) float B[kTile], C[kTile];                          ///< ln 2 · B, C
};

/// The tokens of a direction's tiles, −1 where there is none: of the tile that is scanned, the two after it, and the
/// one before, whose gradients may still be on their way.
struct SweepPlaces {
  static constexpr unsigned kTiles = 4;
  int first[kTiles][kTile], second[kTiles][kTile];
};

/// dt_weight of a warp's channels, 0 beyond R.
template <class Kind>
struct SweepWeights {
  alignas(16) bfloat16 row[kWarp][16 * Kind::kSteps + kChunk];
};

/// A row of scratch for the pre-activations: 40 numbers apart, so that fragments are written without bank conflicts.
using SweepScratch = float[kTile][kWarp + 8];
/// (channel, token) in rows of 24, for the same reason.
using SweepProduct = bfloat16[kWarp][kTile + 8];

// ---- a warp's place -------------------------------------------------------------------------------------------------

/// Rows of a map (rows, D) of one image, of which a lane copies a chunk.
template <class Number>
struct SweepRows {
  Number* front;  ///< the lane's chunk of row 0

  /// Rows are numbered in 32 bits (`sweeps` sees to it), their distance in bytes is added in 64.
  __device__ __forceinline__ Number* chunk(int row, int row_bytes) const {
    using Byte = std::conditional_t<std::is_const_v<Number>, const char, char>;
    return reinterpret_cast<Number*>(reinterpret_cast<Byte*>(front) + static_cast<std::int64_t>(row) * row_bytes);
  }
};

/// Where a warp stands: its image, direction and channels. Rows of a tile are numbered in the order of the direction.
template <class Kind>
struct SweepWarp {
  const Sweep& p;
  SweepPlaces& places;
  std::int64_t image;  ///< changes as the block goes on
  bool reversed;
  int k;              ///< direction
  int warp, lane;     ///< within the direction, within the warp
  int first_channel;  ///< of the warp
  int channel;        ///< of the thread
  bool active;
  bool chunk_exists;
  int row_bytes;
  float A, bias, skip;  ///< of the channel; log₂ e · dt_bias

  __device__ __forceinline__ SweepWarp(const Sweep& sweep, SweepPlaces (&shared_places)[2])
      : p(sweep),
        places(shared_places[warp_index() >= sweep.warps]),
        image(0),
        reversed(warp_index() >= sweep.warps),
        k(sweep.along[reversed]),
        warp(warp_index() - (reversed ? sweep.warps : 0)),
        lane(lane_index()),
        first_channel((static_cast<int>(blockIdx.y) * sweep.warps + warp) * kWarp),
        channel(first_channel + lane),
        active(channel < sweep.channels),
        chunk_exists(first_channel + lane % 4 * kChunk < sweep.channels),
        row_bytes(sweep.channels * static_cast<int>(sizeof(bfloat16))) {
    const std::int64_t at = static_cast<std::int64_t>(k) * p.channels + channel;
    A = active ? -expf(p.weights.A_logs[at]) : 0.0f;
    bias = active ? kLog2E * p.weights.dt_bias[at] : 0.0f;
    skip = active ? p.weights.skip[at] : 0.0f;
  }

  __device__ __forceinline__ int group_thread() const { return warp * kWarp + lane; }
  __device__ __forceinline__ int group_threads() const { return p.warps * kWarp; }
  __device__ __forceinline__ void group_barrier() const {
    reversed ? barrier_of<2>(group_threads()) : barrier_of<1>(group_threads());
  }

  // ---- steps: a tile each, in the order of the walk ----

  /// Whether a walk goes from the sequence's back: this direction's, or the one against its sense.
  __device__ __forceinline__ int tile_of(int step, bool from_back) const {
    return from_back ? p.tiles - 1 - step : step;
  }
  /// The first step whose results the other direction has visited before; the middle tile of an odd number is first
  /// visited from the front.
  __device__ __forceinline__ int meeting(bool from_back) const { return (p.tiles + (from_back ? 0 : 1)) / 2; }

  __device__ __forceinline__ int position(int tile, int row) const {
    return tile * kTile + (reversed ? kTile - 1 - row : row);
  }
  /// Tiles before the first and after the last may be asked for: nothing is there.
  __device__ __forceinline__ bool exists(int at) const {
    return static_cast<unsigned>(at) < static_cast<unsigned>(p.length);
  }
  __device__ __forceinline__ bool has_end(int tile) const { return (tile + 1) * kTile > p.length; }

  // ---- places ----

  /// This thread's places of a tile, on their way from memory while the tile before is scanned.
  struct Ahead {
    int first, second;
  };
  __device__ __forceinline__ Ahead find_places(int tile) const {
    Ahead ahead{-1, -1};
    const int at = position(tile, group_thread());
    if (group_thread() < kTile && exists(at)) {
      const std::int64_t from = image * p.order.stride + at;
      ahead.first = p.order.first[from];
      if (!Kind::kPlain && p.order.second) ahead.second = p.order.second[from];
    }
    return ahead;
  }
  __device__ __forceinline__ void put_places(int tile, const Ahead& ahead) const {
    if (group_thread() >= kTile) return;
    const unsigned slot = static_cast<unsigned>(tile) % SweepPlaces::kTiles;
    places.first[slot][group_thread()] = ahead.first;
    if constexpr (!Kind::kPlain) places.second[slot][group_thread()] = ahead.second;
  }
  __device__ __forceinline__ int first(int tile, int row) const {
    return places.first[static_cast<unsigned>(tile) % SweepPlaces::kTiles][row];
  }
  __device__ __forceinline__ int second(int tile, int row) const {
    return places.second[static_cast<unsigned>(tile) % SweepPlaces::kTiles][row];
  }
  /// Where results of a row lie: its token, or its position; −1 beyond the sequence.
  __device__ __forceinline__ int result_of(int tile, int row) const {
    if (Kind::kPlain || p.by_token) return first(tile, row);
    const int at = position(tile, row);
    return exists(at) ? at : -1;
  }
  __device__ __forceinline__ int output_of(int token) const { return Kind::kPlain ? token : p.output_of(token); }

  // ---- copies ----
  // They move chunks: a lane takes chunk lane % 4 of rows lane / 4 and lane / 4 + 8 of a tile.

  __device__ __forceinline__ int chunk_row(int half) const { return lane / 4 + 8 * half; }
  __device__ __forceinline__ int chunk_column() const { return lane % 4 * kChunk; }

  /// This image's rows of a map (batch, rows, D).
  template <class Number>
  __device__ __forceinline__ SweepRows<Number> rows_of(Number* map, std::int64_t rows) const {
    return {map + image * rows * p.channels + (chunk_exists ? first_channel + chunk_column() : 0)};
  }
  /// `row_of(row)` is the row of the map that a row of the tile holds, −1 for zeros.
  template <class RowOf>
  __device__ __forceinline__ void copy_rows(SweepTile& to, SweepRows<const bfloat16> map, RowOf row_of) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row_of(chunk_row(half));
      copy_async(&to.row[chunk_row(half)][chunk_column()], map.chunk(max(row, 0), row_bytes), row < 0 || !chunk_exists);
    }
  }
  template <class RowOf>
  __device__ __forceinline__ void store_rows(const SweepTile& from, SweepRows<bfloat16> map, RowOf row_of) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row_of(chunk_row(half));
      if (row < 0 || !chunk_exists) continue;
      *reinterpret_cast<uint4*>(map.chunk(row, row_bytes)) =
          *reinterpret_cast<const uint4*>(&from.row[chunk_row(half)][chunk_column()]);
    }
  }
  /// Whether any row of a tile holds two tokens.
  __device__ __forceinline__ bool has_seconds(int tile) const {
    return !Kind::kPlain && __any_sync(0xffffffffu, second(tile, lane % kTile) >= 0);
  }
  /// Adds to a tile this lane's chunks of the second tokens' rows, which this lane has copied.
  __device__ __forceinline__ void add_rows(SweepTile& to, const SweepTile& rows) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      bfloat16* chunk = &to.row[chunk_row(half)][chunk_column()];
      float sum[kChunk], part[kChunk];
      load_vector(chunk, sum);
      load_vector(&rows.row[chunk_row(half)][chunk_column()], part);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) sum[i] += part[i];
      store_vector(sum, chunk);
    }
  }

  /// This thread's states; those of a tile lie p.channels apart.
  __device__ __forceinline__ float* states() const {
    return p.states + (image * p.directions + k) * p.tiles * p.channels + channel;
  }
};

// ---- tokens' projections --------------------------------------------------------------------------------------------

/// A thread's share of a tile's numbers (δ | B | C), and of their gradients: words of two neighbours, as they lie in
/// memory. Where R + 2 is odd, half of a direction's first or last word may be another direction's.
template <class Kind>
class SweepWords {
 public:
  __device__ __forceinline__ explicit SweepWords(const SweepWarp<Kind>& w)
      : width_(w.p.rank + 2), skipped_(w.k * width_ % 2), first_(w.k * width_ - skipped_) {
    const int words = words_of(width_, skipped_);
#pragma unroll
    for (int i = 0; i < Kind::kWords; ++i) {
      const int index = w.group_thread() + i * w.group_threads(), row = index / words;
      packed_[i] = row < kTile ? row | (index - row * words) << 4 : -1;
    }
  }
  __device__ __forceinline__ bool exists(int i) const {
    return packed_[i] >= 0;
  }
  __device__ __forceinline__ int row(int i) const {
    return packed_[i] & (kTile - 1);
  }
  /// Which of (δ | B | C) the first half of a word is.
  __device__ __forceinline__ int column(int i) const {
    return (packed_[i] >> 4) * 2 - skipped_;
  }
  __device__ __forceinline__ bool is_column(int column) const {
    return static_cast<unsigned>(column) < static_cast<unsigned>(width_);
  }
  /// Where a word lies in a token's projections of all directions: an even number.
  __device__ __forceinline__ int offset(int i) const {
    return first_ + (packed_[i] >> 4) * 2;
  }

  /// Of a token and direction; `skipped`: the numbers of the first that are another direction's.
  QM_HOST_DEVICE static constexpr int words_of(int width, int skipped) {
    return (skipped + width + 1) / 2;
  }

 private:
  static_assert(kTile == 16);
  int width_, skipped_, first_;
  int packed_[Kind::kWords];
};

/// Words of a tile on their way, each copied and read by one thread.
template <class Kind>
using SweepComing = std::uint32_t[Kind::kPlain ? 1 : 2][Kind::kWords][Kind::kWarps * kWarp];

/// Brings (δ | B | C) of one tile after another into shared memory: copied while the tile before is scanned, then put
/// where the tile's scan wants it.
template <class Kind>
class SweepProjections {
 public:
  __device__ __forceinline__ SweepProjections(const SweepWarp<Kind>& w, SweepComing<Kind>& coming)
      : coming_(coming), stride_(w.p.directions * (w.p.rank + 2)) {}

  /// Of the warp's image.
  __device__ __forceinline__ void begin(const SweepWarp<Kind>& w) {
    rows_ = w.p.projection + w.image * w.p.length * stride_;
  }

  /// Part of the caller's group of copies.
  __device__ __forceinline__ void copy(const SweepWarp<Kind>& w, const SweepWords<Kind>& words, int tile) const {
#pragma unroll
    for (int i = 0; i < Kind::kWords; ++i) {
      if (!words.exists(i)) continue;
      copy_word(coming_[0][i][w.group_thread()], w.first(tile, words.row(i)), words.offset(i));
      if constexpr (!Kind::kPlain) {
        copy_word(coming_[1][i][w.group_thread()], w.second(tile, words.row(i)), words.offset(i));
      }
    }
  }

  /// Of words that have arrived.
  __device__ __forceinline__ void put(const SweepWarp<Kind>& w, const SweepWords<Kind>& words,
                                      SweepTokens<Kind>& to) const {
    const int rank = w.p.rank;
#pragma unroll
    for (int i = 0; i < Kind::kWords; ++i) {
      if (!words.exists(i)) continue;
      float value[2];
      load_vector(reinterpret_cast<const bfloat16*>(&coming_[0][i][w.group_thread()]), value);
      if constexpr (!Kind::kPlain) {
        float second[2];
        load_vector(reinterpret_cast<const bfloat16*>(&coming_[1][i][w.group_thread()]), second);
        value[0] += second[0];
        value[1] += second[1];
      }
      const int row = words.row(i);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = words.column(i) + half;
        if (!words.is_column(column)) continue;
        if (column < rank) {
          to.rank[row][column] = from_real<bfloat16>(value[half]);
        } else {
          (column == rank ? to.B : to.C)[row] = column == rank ? kLn2 * value[half] : value[half];
        }
      }
    }
  }

 private:
  __device__ __forceinline__ void copy_word(std::uint32_t& to, int token, int offset) const {
    copy_async_word(&to, rows_ + (max(token, 0) * stride_ + offset), token < 0);
  }

  SweepComing<Kind>& coming_;
  int stride_;
  const bfloat16* rows_;
};

/// δ's spare columns are multiplied by weights of 0: they only have to be finite.
template <class Kind>
__device__ __forceinline__ void clear_tokens(SweepTokens<Kind> (&tokens)[2][2]) {
  auto* words = reinterpret_cast<std::uint32_t*>(&tokens[0][0]);
  for (int i = threadIdx.x; i < static_cast<int>(sizeof tokens / sizeof *words); i += blockDim.x) words[i] = 0;
  __syncthreads();
}

// ---- Δ --------------------------------------------------------------------------------------------------------------

template <class Kind>
__device__ __forceinline__ void load_weights(const SweepWarp<Kind>& w, SweepWeights<Kind>& to) {
  const Sweep& p = w.p;
  const std::int64_t front = (static_cast<std::int64_t>(w.k) * p.channels + w.first_channel) * p.rank;
  for (int i = w.lane; i < kWarp * 16 * Kind::kSteps; i += kWarp) {
    const int channel = i / (16 * Kind::kSteps), r = i % (16 * Kind::kSteps);
    const bool exists = w.first_channel + channel < p.channels && r < p.rank;
    to.row[channel][r] = from_real<bfloat16>(exists ? p.weights.dt_weight[front + channel * p.rank + r] : 0.0f);
  }
  __syncwarp();
}

/// The pre-activations of a tile without bias: scratch (16 tokens, 32 channels) = (16 tokens × R) (R × 32 channels),
/// for the whole warp to read afterwards.
template <class Kind>
__device__ __forceinline__ void fill_pre_activations(const SweepTokens<Kind>& tokens, const SweepWeights<Kind>& weights,
                                                     SweepScratch& scratch) {
  const int lane = lane_index(), g = lane / 4, q = lane % 4;
  float sum[4][4] = {};
#pragma unroll
  for (int s = 0; s < Kind::kSteps; ++s) {
    FragmentA delta;
    load_matrices(delta.a, &tokens.rank[lane % 16][16 * s + lane / 16 * 8]);
#pragma unroll
    for (int n = 0; n < 4; n += 2) {
      FragmentB weight[2];
      load_matrices(weight, &weights.row[8 * n + lane / 16 * 8 + lane % 8][16 * s + lane / 8 % 2 * 8]);
      multiply_add(sum[n], delta, weight[0]);
      multiply_add(sum[n + 1], delta, weight[1]);
    }
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    *reinterpret_cast<float2*>(&scratch[g][8 * n + 2 * q]) = make_float2(sum[n][0], sum[n][1]);
    *reinterpret_cast<float2*>(&scratch[g + 8][8 * n + 2 * q]) = make_float2(sum[n][2], sum[n][3]);
  }
  __syncwarp();
}

/// log₂(1 + 2ˣ), to the relative precision of a float where the power is small too.
__device__ __forceinline__ float softplus_base2(float x) {
  const float power = exp2_fast(x);
  const float small = power * (kLog2E + power * (-0.5f * kLog2E + power * (kLog2E / 3)));
  const float large = x > 28.0f ? x : log2_fast(1.0f + power);
  return power < 0.0078125f ? small : large;
}

/// Rows beyond the sequence: Δ = 0 for them, so that they change no state.
template <class Kind>
__device__ __forceinline__ void hide_rows_beyond(const SweepWarp<Kind>& w, int tile, SweepScratch& scratch) {
  for (int row = 0; row < kTile; ++row) {
    if (!w.exists(w.position(tile, row))) scratch[row][w.lane] = -1e4f;
  }
}

/// Numbers of half a tile, which begins at row 0 or 8.
using HalfTile = float[kTile / 2];

__device__ __forceinline__ void load_half(HalfTile& to, const SweepTile& tile, int first) {
#pragma unroll
  for (int i = 0; i < kTile / 2; ++i) to[i] = to_real(tile.row[first + i][lane_index()]);
}
__device__ __forceinline__ void load_half(HalfTile& to, const float (&numbers)[kTile], int first) {
#pragma unroll
  for (int i = 0; i < kTile / 2; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(&numbers[first + i]);
    to[i] = four.x;
    to[i + 1] = four.y;
    to[i + 2] = four.z;
    to[i + 3] = four.w;
  }
}
__device__ __forceinline__ void store_half(SweepTile& tile, int first, const HalfTile& from) {
#pragma unroll
  for (int i = 0; i < kTile / 2; ++i) tile.row[first + i][lane_index()] = from_real<bfloat16>(from[i]);
}

// ---- launch ---------------------------------------------------------------------------------------------------------

inline int sweep_tiles(std::int64_t length) {
  return static_cast<int>(ceil_div(length, kTile));
}

/// States that a forward sweep leaves for backward: (batch, K, tiles, D).
inline std::int64_t sweep_states(const ScanShape& s, std::int64_t batch, std::int64_t length) {
  return batch * s.directions * sweep_tiles(length) * s.channels;
}

/// Calls body.template operator()<Kind>() with what suits the rank, for plain orders.
template <bool kBackward, class Body>
void with_plain_kind(std::int64_t rank, Body body) {
  if (rank <= 8) return body.template operator()<SweepKind<6, 1, 1>>();
  if (rank <= 16) return body.template operator()<SweepKind<6, 2, 1>>();
  if (rank <= 32) {
    // Two blocks of six warps on a multiprocessor hide more of backward's waiting than one of eight; forward holds two
    // of eight.
    return body.template operator()<std::conditional_t<kBackward, SweepKind<3, 4, 3>, SweepKind<4, 4, 3>>>();
  }
  body.template operator()<SweepKind<4, 6, 4>>();
}

/// The same for any order where kGeneral, so that others do not compile what they never run.
template <bool kBackward, bool kGeneral, class Body>
void with_sweep_kind(const Sweep& sweep, Body body) {
  with_plain_kind<kBackward>(sweep.rank, [&]<class Kind>() {
    if constexpr (kGeneral) {
      if (!sweep.is_plain()) return body.template operator()<typename Kind::General>();
    }
    body.template operator()<Kind>();
  });
}

/// How a scan's images and channels are spread over blocks.
struct SweepGrid {
  int image_blocks, channel_blocks, warps;

  /// `blocks` that a multiprocessor holds: beyond what a large GPU runs at once, blocks take several images each, so
  /// that the weights are read, and their gradients' sums written, less often. A matter of the shape, never of the
  /// device.
  SweepGrid(std::int64_t batch, std::int64_t channels, int most_warps, int blocks) {
    constexpr int kMultiprocessors = 128;
    const std::int64_t all = ceil_div(channels, kWarp);
    channel_blocks = static_cast<int>(ceil_div(all, most_warps));
    warps = static_cast<int>(ceil_div(all, channel_blocks));
    const std::int64_t images = std::max<std::int64_t>(1, batch * channel_blocks / (kMultiprocessors * blocks));
    image_blocks = static_cast<int>(ceil_div(batch, images));
  }
  dim3 grid() const { return dim3(static_cast<unsigned>(image_blocks), static_cast<unsigned>(channel_blocks)); }
  int threads() const { return 2 * warps * kWarp; }
};

/// Whether the sweeps take a scan of sequences of this length.
inline bool sweeps(const ScanShape& s, std::int64_t length) {
  if (s.states != 1 || s.rank > 48 || s.directions % 2 != 0 || s.channels % kChunk != 0 || s.channels > (1 << 20))
    return false;
  if (length * s.directions * s.projection() > std::numeric_limits<int>::max() - kTile) return false;
  bool fits = true;
  const auto check = [&]<class Kind>() {
    const int width = static_cast<int>(s.projection()), words = SweepWords<Kind>::words_of(width, width % 2);
    fits &= kTile * words <= Kind::kWords * SweepGrid(1, s.channels, Kind::kWarps, 1).warps * kWarp;
  };
  with_plain_kind<false>(s.rank, check);
  with_plain_kind<true>(s.rank, check);
  return fits;
}

template <class Kernel, class... Arguments>
void launch_sweep(const char* name, const Stream& stream, Kernel kernel, const SweepGrid& grid,
                  std::size_t shared_bytes, const Arguments&... arguments) {
  QM_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  kernel<<<grid.grid(), grid.threads(), shared_bytes, native(stream)>>>(arguments...);
  check_launch(name);
}

}  // namespace qm::cuda
