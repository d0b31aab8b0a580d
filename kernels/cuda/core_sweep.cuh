// Sweeps: the scans of a map's tokens with bfloat16 activations and one state, what quad_scan and cross_scan run in
// training. (kernels/cuda/core_scan.cuh takes every other case.)
//
// A block holds channels of one image after another and walks their whole sequence, tile by tile of 16 tokens: half of
// its warps from the front, the other half from the back. Nothing is combined afterwards, since a state never leaves
// its thread: a thread is a channel. Both directions' results are added where they meet: until the middle a direction
// stores what it has; from there on it finds the other's, adds its own and stores the sum. So every result is one of
// two numbers added in either order: the same bits in every run.
//
// A tile of a warp is 16 tokens × 32 channels, its rows in the order in which the direction scans them: both directions
// run the same instructions. Two more warps a direction look up the tokens: one brings the tiles to shared memory, one
// ahead of the scans, the other stores their results. The others only scan. The pre-activation of Δ is a product of
// the token's δ (16 × R) with the channel's weights, made by the tensor cores, as are backward's sums over channels
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
    if (out_width == width) return token < out_height * width ? token : -1;
    const int i = token / width, j = token % width;
    return i < out_height && j < out_width ? i * out_width + j : -1;
  }
};

/// What a kernel is compiled for. kPlain: every position holds one token, and results lie by token.
template <int kWarps_, int kRankTiles_, bool kPlain_ = true>
struct SweepKind {
  static constexpr int kWarps = kWarps_;               ///< that scan, a direction, at most
  static constexpr int kRankTiles = kRankTiles_;       ///< of 8 that cover R
  static constexpr int kSteps = (kRankTiles + 1) / 2;  ///< of 16 that cover R
  static constexpr bool kPlain = kPlain_;
  static constexpr int kTokens = kPlain ? 1 : 2;  ///< at a position, at most
  static constexpr int kTiles = kTokens + 1;      ///< that a warp keeps of what it reads: a buffer each, second tokens'
  static constexpr int kThreads = 2 * (kWarps + 2) * kWarp;
  /// Blocks that a multiprocessor's registers and shared memory are to hold at once.
  static constexpr int kForwardBlocks = 2;
  static constexpr int kBackwardBlocks = 1;
  using General = SweepKind<kWarps, kRankTiles, false>;
};

// ---- shared memory --------------------------------------------------------------------------------------------------

/// A warp's tile of one map.
struct SweepTile {
  alignas(16) bfloat16 row[kTile][kWarp];
};

/// What a direction's warps share of a tile of tokens: (δ | B | C) in whole words as they lie in memory, so that
/// `SweepDirection::skipped` numbers before δ are another direction's. What is not δ is multiplied by weights of 0: it
/// only has to be finite. Rows have a spare chunk, for (B | C) and to spread them over the banks.
template <class Kind>
struct SweepTokens {
  alignas(16) bfloat16 row[kTile][16 * Kind::kSteps + kChunk];
  alignas(16) float B[kTile], C[kTile];  ///< ln 2 · B, C
};

/// dt_weight of a warp's channels, in the columns of SweepTokens' rows: 0 where no δ is.
template <class Kind>
struct SweepWeights {
  alignas(16) bfloat16 row[kWarp][16 * Kind::kSteps + kChunk];
};

/// A row of scratch for the pre-activations: 40 numbers apart, so that fragments are written without bank conflicts.
using SweepScratch = float[kTile][kWarp + 8];
/// (channel, token) in rows of 24, for the same reason.
using SweepProduct = bfloat16[kWarp][kTile + 8];

/// What the warps of a direction tell each other of its two buffers: tile after tile uses one, then the other.
struct SweepSignals {
  SharedBarrier full[2];  ///< both copy warps have brought what they have to of a tile
  SharedBarrier done[2];  ///< each of the others has scanned it

  __device__ __forceinline__ void init(int warps) {
    for (int buffer = 0; buffer < 2; ++buffer) {
      full[buffer].init(2);
      done[buffer].init(warps);
    }
  }
};

/// What a direction shares in either pass.
template <class Kind>
struct SweepShared {
  SweepTokens<Kind> tokens[Kind::kTiles];  ///< a buffer each, second tokens'
  SweepSignals signals;
};

/// Clears the block's shared memory, `bytes` from `directions` on, since not all of it is copied to: columns beyond the
/// projections, channels beyond the last.
template <class Kind>
__device__ __forceinline__ void prepare(SweepShared<Kind> (&directions)[2], int warps, std::size_t bytes) {
  auto* words = reinterpret_cast<std::uint32_t*>(directions);
  for (int i = threadIdx.x; i < static_cast<int>(bytes / sizeof *words); i += blockDim.x) words[i] = 0;
  __syncthreads();
  if (threadIdx.x < 2) directions[threadIdx.x].signals.init(warps);
  __syncthreads();
}

// ---- a warp's place -------------------------------------------------------------------------------------------------
// The first half of a block's warps but four scans forwards, the second backwards. Of the last four, two bring tiles and
// two store results, for a direction each.

/// One of a block's two directions, and the walk along it: a step a tile. Rows of a tile are numbered in the order of
/// the direction.
struct SweepDirection {
  const Sweep& p;
  bool reversed;      ///< the direction
  bool from_back;     ///< the walk: backward goes against the direction
  int k;              ///< the direction's number
  int first_channel;  ///< of the block
  int skipped;        ///< numbers before this direction's in the first word of a token's: 1 where R + 2 and k are odd

  __device__ __forceinline__ SweepDirection(const Sweep& sweep, bool is_reversed, bool against)
      : p(sweep),
        reversed(is_reversed),
        from_back(is_reversed != against),
        k(sweep.along[is_reversed]),
        first_channel(static_cast<int>(blockIdx.y) * sweep.warps * kWarp),
        skipped(k * (sweep.rank + 2) % 2) {}

  __device__ __forceinline__ int tile_of(int step) const { return from_back ? p.tiles - 1 - step : step; }
  /// The first step whose results the other direction has visited before; the middle tile of an odd number is first
  /// visited from the front.
  __device__ __forceinline__ int meeting() const { return (p.tiles + (from_back ? 0 : 1)) / 2; }
  __device__ __forceinline__ bool adds(int step) const { return p.adds || step >= meeting(); }

  __device__ __forceinline__ int position(int tile, int row) const {
    return tile * kTile + (reversed ? kTile - 1 - row : row);
  }
  /// Tiles before the first and after the last may be asked for: nothing is there.
  __device__ __forceinline__ bool exists(int at) const {
    return static_cast<unsigned>(at) < static_cast<unsigned>(p.length);
  }
  __device__ __forceinline__ bool has_end(int tile) const { return (tile + 1) * kTile > p.length; }
};

enum class SweepRole { kScan, kBring, kStore };

__device__ __forceinline__ SweepRole sweep_role(const Sweep& p) {
  const int copying = warp_index() - 2 * p.warps;
  return copying < 0 ? SweepRole::kScan : copying < 2 ? SweepRole::kBring : SweepRole::kStore;
}
/// Whether a warp belongs to the second direction.
__device__ __forceinline__ bool is_reversed(const Sweep& p) {
  const int copying = warp_index() - 2 * p.warps;
  return copying < 0 ? warp_index() >= p.warps : copying % 2 != 0;
}

/// A warp that scans: a lane is a channel.
struct SweepWarp : SweepDirection {
  int warp, lane;     ///< within the direction, within the warp
  int channel;        ///< of the lane
  bool active;
  float A, bias, skip;  ///< of the channel; log₂ e · dt_bias

  __device__ __forceinline__ SweepWarp(const Sweep& sweep, bool against)
      : SweepDirection(sweep, is_reversed(sweep), against),
        warp(warp_index() - (reversed ? sweep.warps : 0)),
        lane(lane_index()),
        channel(first_channel + warp * kWarp + lane),
        active(channel < sweep.channels) {
    const std::int64_t at = static_cast<std::int64_t>(k) * p.channels + channel;
    A = active ? -expf(p.weights.A_logs[at]) : 0.0f;
    bias = active ? kLog2E * p.weights.dt_bias[at] : 0.0f;
    skip = active ? p.weights.skip[at] : 0.0f;
  }

  /// The lane's states of an image; those of a tile lie p.channels apart.
  __device__ __forceinline__ float* states(std::int64_t image) const {
    return p.states + (image * p.directions + k) * p.tiles * p.channels + channel;
  }

  /// Calls scan(step, buffer) for every step of an image, when its tile has come, and says when it is done.
  /// `uses`: tiles that this block has scanned before.
  template <class Scan>
  __device__ __forceinline__ void walk(SweepSignals& signals, unsigned& uses, Scan scan) const {
    for (int step = 0; step < p.tiles; ++step, ++uses) {
      const int buffer = static_cast<int>(uses % 2);
      signals.full[buffer].wait(uses / 2 % 2);
      scan(step, buffer);
      __syncwarp();
      if (lane == 0) signals.done[buffer].arrive();
    }
  }
};

// ---- copies ---------------------------------------------------------------------------------------------------------

/// A value that is computed once and then kept in its register, where the compiler would rather compute it anew.
template <class T>
__device__ __forceinline__ T* kept(T* pointer) {
  asm volatile("" : "+l"(pointer));
  return pointer;
}
__device__ __forceinline__ std::uint32_t kept(std::uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// The tokens of a tile: a lane holds those of row lane % kTile, −1 where there is none.
struct SweepPlaces {
  int first, second;
};

/// Either copy warp of a direction. It moves chunks: of every scanning warp's tile a lane takes chunk lane % 4 of rows
/// lane / 4 and lane / 4 + 8. Of the tokens' (δ | B | C) it takes every other word of row lane / 2. All others wait for
/// what it does, so it keeps in registers what it can. kTileBytes: from a warp's tile to the same of the next warp.
template <class Kind, int kTileBytes>
class SweepCopyWarp : public SweepDirection {
 public:
  __device__ __forceinline__ SweepCopyWarp(const Sweep& sweep, bool against, SweepShared<Kind>& shared)
      : SweepDirection(sweep, is_reversed(sweep), against),
        lane_(lane_index()),
        column_(first_channel + lane_ % 4 * kChunk),
        chunks_(min(sweep.warps, (sweep.channels - column_ + kWarp - 1) / kWarp)),
        row_bytes_(sweep.channels * static_cast<int>(sizeof(bfloat16))),
        words_((skipped + sweep.rank + 3) / 2),
        shared_(shared) {}

  /// Brings the tiles of an image, each as soon as its buffer's last one has been scanned. Of `maps`,
  ///   start(places, buffer)  copies what is read for a tile behind the thread's back
  ///   put(places, buffer)    all of that has arrived
  template <class Maps>
  __device__ __forceinline__ void bring(std::int64_t image, unsigned& uses, Maps& maps) {
    image_ = image;
    maps.begin();
    SweepPlaces now = find_places(0);
    for (int step = 0; step < p.tiles; ++step, ++uses) {
      const int buffer = static_cast<int>(uses % 2);
      const SweepPlaces next = find_places(step + 1);
      if (uses >= 2) wait_done(uses - 2);
      maps.start(now, buffer);
      commit_copies();
      wait_copies<0>();
      maps.put(now, buffer);
      say_full(buffer);
      now = next;
    }
  }

  /// Stores the results of an image's tiles, and brings those that results are added to; a tile's results take their
  /// place. Where the directions meet both have to store all that they have before. Of `maps`,
  ///   start_partial(tile, places, buffer)  copies the results that a tile's are added to behind the thread's back
  ///   finish(step, places, buffer)         stores what a tile has become
  template <class Maps>
  __device__ __forceinline__ void store(std::int64_t image, unsigned& uses, Maps& maps) {
    image_ = image;
    maps.begin();
    const int steps = p.tiles, meet_at = meeting();
    SweepPlaces older{-1, -1}, old{-1, -1}, now = find_places(0);
    int finished = 0;  // steps
    for (int step = 0; step <= steps + 1; ++step) {
      const int buffer = static_cast<int>((uses + step) % 2);
      const SweepPlaces next = find_places(step + 1);
      for (const int until = step == meet_at ? step : step - 1; finished < until; ++finished) {
        wait_done(uses + finished);
        const bool is_old = finished == step - 1;
        maps.finish(finished, is_old ? old : older, is_old ? 1 - buffer : buffer);
      }
      if (step == meet_at) barrier_of<1>(2 * kWarp);
      if (step < steps) {
        if (adds(step)) {
          maps.start_partial(tile_of(step), now, buffer);
          commit_copies();
          wait_copies<0>();
        }
        say_full(buffer);
      }
      older = old;
      old = now;
      now = next;
    }
    uses += steps;
  }

  // ---- rows of maps ----

  /// The lane's chunk of the first row of an image in a map (batch, length, D).
  template <class Number>
  __device__ __forceinline__ Number* image_of(Number* map, std::int64_t length) const {
    return kept(map + image_ * length * p.channels + column_);
  }
  /// What the lane's two rows of a tile are in a map.
  struct Rows {
    int row[2];
  };
  /// Of what the lanes hold of a row each.
  __device__ __forceinline__ Rows rows_of(int place) const {
    Rows rows;
#pragma unroll
    for (int half = 0; half < 2; ++half) rows.row[half] = __shfl_sync(0xffffffffu, place, chunk_row(half));
    return rows;
  }
  /// Of results: the token, or the position; −1 beyond the sequence.
  __device__ __forceinline__ Rows results(int tile, const SweepPlaces& places) const {
    Rows rows = rows_of(places.first);
    if constexpr (!Kind::kPlain) {
      for (int half = 0; half < 2 && !p.by_token; ++half) rows.row[half] = existing(position(tile, chunk_row(half)));
    }
    return rows;
  }
  /// Where a token lies in the map after the merge.
  __device__ __forceinline__ int output_of(int token) const { return Kind::kPlain ? token : p.output_of(token); }
  /// Whether any row of a tile holds two tokens.
  __device__ __forceinline__ bool has_seconds(const SweepPlaces& places) const {
    return !Kind::kPlain && __any_sync(0xffffffffu, places.second >= 0);
  }

  /// Copies rows of an image, zeros where a row is −1, to the tiles of which `first` is the first warp's.
  __device__ __forceinline__ void copy_rows(const bfloat16* image, const Rows& rows, SweepTile& first) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bfloat16* from = row_at(image, max(rows.row[half], 0));
      const bool zero = rows.row[half] < 0;
      each_chunk<Kind::kWarps>(first, half, 0, [&](int warp, std::uint32_t to) {
        copy_async(to, from + warp * kWarp, zero);
      });
    }
  }
  __device__ __forceinline__ void store_rows(bfloat16* image, const Rows& rows, SweepTile& first) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      bfloat16* to = row_at(image, max(rows.row[half], 0));
      constexpr int kBatch = (Kind::kWarps + 1) / 2;  // that are read before the first is waited for
#pragma unroll
      for (int front = 0; front < Kind::kWarps; front += kBatch) {
        uint4 chunk[kBatch];
        each_chunk<kBatch>(first, half, front, [&](int warp, std::uint32_t from) {
          chunk[warp - front] = load_shared(from);
        });
        if (rows.row[half] < 0) continue;
        each_chunk<kBatch>(first, half, front, [&](int warp, std::uint32_t) {
          *reinterpret_cast<uint4*>(to + warp * kWarp) = chunk[warp - front];
        });
      }
    }
  }
  /// Adds rows that this warp has copied to others.
  __device__ __forceinline__ void add_rows(SweepTile& first, SweepTile& first_added) const {
    const std::uint32_t added = shared_address(&first_added) - shared_address(&first);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      each_chunk<Kind::kWarps>(first, half, 0, [&](int, std::uint32_t at) {
        const uint4 chunks[2] = {load_shared(at), load_shared(at + added)};
        float sum[kChunk], part[kChunk];
        load_vector(reinterpret_cast<const bfloat16*>(&chunks[0]), sum);
        load_vector(reinterpret_cast<const bfloat16*>(&chunks[1]), part);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) sum[i] += part[i];
        uint4 packed;
        store_vector(sum, reinterpret_cast<bfloat16*>(&packed));
        store_shared(packed, at);
      });
    }
  }

  // ---- rows of (δ | B | C) ----

  /// Where the projections of the image begin, with the word that this direction's begin in.
  __device__ __forceinline__ std::int64_t projections_of_image() const {
    return image_ * p.length * projections() + (k * (p.rank + 2) - skipped);
  }
  __device__ __forceinline__ void copy_projections(const bfloat16* image, const SweepPlaces& places,
                                                   int buffer) const {
    copy_projections(image, places.first, shared_.tokens[buffer]);
    if (has_seconds(places)) copy_projections(image, places.second, shared_.tokens[Kind::kTiles - 1]);
  }
  /// When they have arrived.
  __device__ __forceinline__ void put_projections(const SweepPlaces& places, int buffer) const {
    SweepTokens<Kind>& tokens = shared_.tokens[buffer];
    if (has_seconds(places)) {
      each_word([&](int, int word) {
        float sum[2], part[2];
        bfloat16* at = &tokens.row[lane_ / 2][2 * word];
        load_vector(at, sum);
        load_vector(&shared_.tokens[Kind::kTiles - 1].row[lane_ / 2][2 * word], part);
        sum[0] += part[0];
        sum[1] += part[1];
        store_vector(sum, at);
      });
    }
    __syncwarp();
    const int row = lane_ % kTile;
    const bfloat16* numbers = &tokens.row[row][skipped + p.rank];
    if (lane_ < kTile) {
      tokens.B[row] = kLn2 * to_real(numbers[0]);
    } else {
      tokens.C[row] = to_real(numbers[1]);
    }
  }
  /// Calls body(row of the tile, word, offset of that word) for every word of a tile's results by this lane. Offsets
  /// count from the image's.
  template <class Body>
  __device__ __forceinline__ void each_result_word(int tile, const SweepPlaces& places, Body body) const {
    const int row = lane_ / 2;
    const int to = Kind::kPlain || p.by_token ? __shfl_sync(0xffffffffu, places.first, row)
                                              : existing(position(tile, row));
    if (to < 0) return;
    each_word([&](int, int word) { body(row, word, to * projections() + 2 * word); });
  }

 private:
  __device__ __forceinline__ SweepPlaces find_places(int step) const {
    const int at = position(tile_of(step), lane_ % kTile);
    SweepPlaces places{-1, -1};
    if (exists(at)) {
      const std::int64_t from = image_ * p.order.stride + at;
      places.first = p.order.first[from];
      if (!Kind::kPlain && p.order.second) places.second = p.order.second[from];
    }
    return places;
  }
  __device__ __forceinline__ int existing(int at) const { return exists(at) ? at : -1; }

  /// `use`: a tile's, counted over all that this block has scanned.
  __device__ __forceinline__ void wait_done(unsigned use) const { shared_.signals.done[use % 2].wait(use / 2 % 2); }
  __device__ __forceinline__ void say_full(int buffer) const {
    __syncwarp();
    if (lane_ == 0) shared_.signals.full[buffer].arrive();
  }

  __device__ __forceinline__ int chunk_row(int half) const { return lane_ / 4 + 8 * half; }
  /// Calls body(warp, address of the lane's chunk of its tile) for those of kCount warps that have one.
  template <int kCount, class Body>
  __device__ __forceinline__ void each_chunk(SweepTile& first, int half, int front, Body body) const {
    const std::uint32_t at = kept(shared_address(&first) + lane_ * 16);
#pragma unroll
    for (int warp = front; warp < min(front + kCount, Kind::kWarps); ++warp) {
      if (warp < chunks_) body(warp, at + half * (sizeof(SweepTile) / 2) + warp * kTileBytes);
    }
  }
  /// Rows are numbered in 32 bits (`sweeps` sees to it), their distance is added in 64.
  template <class Number>
  __device__ __forceinline__ Number* row_at(Number* image, int row) const {
    using Byte = std::conditional_t<std::is_const_v<Number>, const char, char>;
    return kept(reinterpret_cast<Number*>(reinterpret_cast<Byte*>(image) + static_cast<std::int64_t>(row) * row_bytes_));
  }

  /// Numbers of a token's projections.
  __device__ __forceinline__ int projections() const { return p.directions * (p.rank + 2); }
  __device__ __forceinline__ void copy_projections(const bfloat16* image, int place, SweepTokens<Kind>& to) const {
    const int token = __shfl_sync(0xffffffffu, place, lane_ / 2);
    const bfloat16* from = kept(image + max(token, 0) * projections() + lane_ % 2 * 2);
    const std::uint32_t at = kept(shared_address(&to.row[lane_ / 2][lane_ % 2 * 2]));
    each_word([&](int index, int) { copy_async_word(at + index * 8, from + index * 4, token < 0); });
  }
  /// Calls body(index, word) for the lane's words of a token.
  template <class Body>
  __device__ __forceinline__ void each_word(Body body) const {
#pragma unroll
    for (int index = 0; index < 2 * Kind::kRankTiles + 1; ++index) {
      if (2 * index >= words_) break;  // for all lanes
      const int word = lane_ % 2 + 2 * index;
      if (word < words_) body(index, word);
    }
  }

  int lane_;
  int column_;  ///< where the lane's chunk of the first warp begins
  int chunks_;  ///< warps whose chunk exists
  int row_bytes_;
  int words_;  ///< of a token
  SweepShared<Kind>& shared_;
  std::int64_t image_ = 0;
};

// ---- Δ --------------------------------------------------------------------------------------------------------------

template <class Kind>
__device__ __forceinline__ void load_weights(const SweepWarp& w, SweepWeights<Kind>& to) {
  const Sweep& p = w.p;
  const int first_channel = w.channel - w.lane;
  const std::int64_t front = (static_cast<std::int64_t>(w.k) * p.channels + first_channel) * p.rank;
  for (int i = w.lane; i < kWarp * 16 * Kind::kSteps; i += kWarp) {
    const int channel = i / (16 * Kind::kSteps), r = i % (16 * Kind::kSteps) - w.skipped;
    const bool exists = first_channel + channel < p.channels && r >= 0 && r < p.rank;
    to.row[channel][r + w.skipped] = from_real<bfloat16>(exists ? p.weights.dt_weight[front + channel * p.rank + r] : 0.0f);
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
    load_matrices(delta.a, &tokens.row[lane % 16][16 * s + lane / 16 * 8]);
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
__device__ __forceinline__ void hide_rows_beyond(const SweepWarp& w, int tile, SweepScratch& scratch) {
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
  if (rank <= 8) return body.template operator()<SweepKind<6, 1>>();
  if (rank <= 16) return body.template operator()<SweepKind<6, 2>>();
  if (rank <= 32) return body.template operator()<std::conditional_t<kBackward, SweepKind<6, 4>, SweepKind<4, 4>>>();
  body.template operator()<SweepKind<4, 6>>();
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
  int threads() const { return 2 * (warps + 2) * kWarp; }
};

/// Whether the sweeps take a scan of sequences of this length.
inline bool sweeps(const ScanShape& s, std::int64_t length) {
  if (s.states != 1 || s.rank > 48 || s.directions % 2 != 0 || s.channels % kChunk != 0 || s.channels > (1 << 20))
    return false;
  return length * s.directions * s.projection() <= std::numeric_limits<int>::max() - kTile;
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
