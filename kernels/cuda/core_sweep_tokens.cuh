// What all channels of a sweep share of a tile, and the warp that brings it (kernels/cuda/core_sweep.cuh).
#pragma once

#include "kernels/cuda/core_sweep.cuh"

namespace qm::cuda {

// ---- shared memory --------------------------------------------------------------------------------------------------

/// Where a tile's tokens lie: rows of the maps, counted over all images; −1 where there is none.
template <class Kind>
struct SweepRows {
  int token[Kind::kTokens][kTile];  ///< of x and the projections

  /// Whether any position holds two tokens.
  __device__ __forceinline__ bool has_seconds() const { return !Kind::kPlain && doubled; }
  __device__ __forceinline__ const int* result() const { return Kind::kPlain ? token[0] : general_result; }
  /// Of the map after the merge.
  __device__ __forceinline__ const int* output(int i) const { return Kind::kPlain ? token[i] : general_output[i]; }

  // Where the kind is not plain.
  int general_result[kTile], general_output[Kind::kTokens][kTile];
  bool doubled;
};

/// A tile's (δ | B | C) in whole words as they lie in memory, so that `SweepDirection::skipped` numbers before δ are
/// another direction's. What is not δ is multiplied by weights of 0: it only has to be finite. Rows have a spare chunk,
/// for (B | C) and to spread them over the banks.
template <class Kind>
struct SweepTokens {
  alignas(16) bfloat16 row[kTile][16 * Kind::kSteps + kChunk];
  alignas(16) float B[kTile], C[kTile];  ///< ln 2 · B, C
  SweepRows<Kind> rows;
};

/// Tiles of tokens that are kept: the one that is scanned, the next, for which its maps' tiles are brought, and one that
/// is on its way.
inline constexpr int kSweepSlots = 3;

/// A walk's tiles use the slots in turn. `parity` is that of the times it has gone round.
struct SweepSlot {
  int index = 0;
  unsigned parity = 0;

  __device__ __forceinline__ void advance() {
    if (++index == kSweepSlots) {
      index = 0;
      parity ^= 1;
    }
  }
};

/// What a direction's warps share.
template <class Kind>
struct SweepShared {
  SweepTokens<Kind> tokens[kSweepSlots];
  SweepTokens<Kind> seconds;
  SharedBarrier full[kSweepSlots];  ///< a tile's tokens have been brought
  SharedBarrier done[kSweepSlots];  ///< every warp has scanned it
};

/// Clears the block's shared memory, `bytes` from `directions` on, since not all of it is copied to: columns beyond the
/// projections, channels beyond the last.
template <class Kind>
__device__ __forceinline__ void prepare(SweepShared<Kind> (&directions)[2], int warps, std::size_t bytes) {
  auto* words = reinterpret_cast<std::uint32_t*>(directions);
  for (int i = threadIdx.x; i < static_cast<int>(bytes / sizeof *words); i += blockDim.x) words[i] = 0;
  __syncthreads();
  if (threadIdx.x < 2 * kSweepSlots) {
    SweepShared<Kind>& direction = directions[threadIdx.x / kSweepSlots];
    direction.full[threadIdx.x % kSweepSlots].init(kWarp);
    direction.done[threadIdx.x % kSweepSlots].init(warps * kWarp);
  }
  __syncthreads();
}

// ---- the warp -------------------------------------------------------------------------------------------------------

/// Brings a direction's tokens. A lane looks up row lane % 16 of a tile, and copies every other word of row lane / 2.
template <class Kind>
class SweepTokenWarp : public SweepDirection {
 public:
  __device__ __forceinline__ SweepTokenWarp(const Sweep& sweep, bool against, SweepShared<Kind> (&directions)[2])
      : SweepDirection(sweep, against),
        lane_(lane_index()),
        first_number_(k * (p.rank + 2) - skipped),
        words_((skipped + p.rank + 3) / 2),
        shared_(directions[reversed]) {}

  /// Brings the tokens of every tile on the walk as soon as there is a slot, and then calls finish(row of results that
  /// the lane has looked up, use) for the tile that the slot held before, the use'th of the block. That is over before
  /// the tile after next but one is scanned.
  template <class Finish>
  __device__ __forceinline__ void run(Finish finish) const {
    SweepSlot slot;
    SweepPlace place = start();
    Tokens next = look_up(place);
    int results[kSweepSlots] = {};  // of the tiles in the slots, the oldest first
    int beyond = 0;                 // tiles after the walk's last: only finished
    for (unsigned use = 0; beyond < kSweepSlots; ++use, slot.advance()) {
      SweepTokens<Kind>& tokens = shared_.tokens[slot.index];
      const bool brings = exists(place);
      if (use >= kSweepSlots) shared_.done[slot.index].wait(slot.parity ^ 1);
      int result = -1;
      bool doubled = false;
      if (brings) {
        const Tokens now = next;
        const SweepPlace following = after(place);
        next = look_up(following);
        doubled = has_seconds(now);
        result = put_rows(place, now, doubled, tokens.rows);
        copy(place, now.first, tokens);
        if (doubled) copy(place, now.second, shared_.seconds);
        commit_copies();
        place = following;
      }
      if (use >= kSweepSlots) finish(results[0], use - kSweepSlots);
#pragma unroll
      for (int i = 1; i < kSweepSlots; ++i) results[i - 1] = results[i];
      results[kSweepSlots - 1] = result;
      if (brings) {
        wait_copies<0>();
        if (doubled) add_seconds(tokens);
        __syncwarp();
        put_BC(tokens);
      } else {
        ++beyond;
      }
      if (beyond <= 1) shared_.full[slot.index].arrive();  // the last tile's scan waits for one more
    }
  }

  /// Calls body(row of the tile, word, where that word of the row lies in a map of projections) for the lane's words.
  /// `result`: what finish() was given.
  template <class Body>
  __device__ __forceinline__ void each_result_word(int result, Body body) const {
    const int row = lane_ / 2, to = __shfl_sync(0xffffffffu, result, row);
    if (to < 0) return;
    const std::int64_t front = static_cast<std::int64_t>(to) * projections() + first_number_;
    each_word([&](int, int word) { body(row, word, front + 2 * word); });
  }

 private:
  struct Tokens {
    int first, second;  ///< of an image; −1 where there is none
  };

  __device__ __forceinline__ Tokens look_up(const SweepPlace& place) const {
    const int at = position(tile_of(place), lane_ % kTile);
    Tokens tokens{-1, -1};
    if (exists(place) && is_position(at)) {
      const std::int64_t from = place.image * p.order.stride + at;
      tokens.first = p.order.first[from];
      if (!Kind::kPlain && p.order.second) tokens.second = p.order.second[from];
    }
    return tokens;
  }
  __device__ __forceinline__ bool has_seconds(const Tokens& tokens) const {
    return !Kind::kPlain && __any_sync(0xffffffffu, tokens.second >= 0);
  }

  /// Of results, for the lane's row.
  __device__ __forceinline__ int put_rows(const SweepPlace& place, const Tokens& tokens, bool doubled,
                                          SweepRows<Kind>& rows) const {
    const int image = static_cast<int>(place.image), row = lane_ % kTile;
    const auto row_of = [&](int length, int at) { return at < 0 ? -1 : image * length + at; };
    rows.token[0][row] = row_of(p.length, tokens.first);
    if constexpr (Kind::kPlain) return row_of(p.length, tokens.first);
    const int at = position(tile_of(place), row), out_length = static_cast<int>(p.out_length());
    const int result = row_of(p.length, p.by_token ? tokens.first : is_position(at) ? at : -1);
    rows.token[Kind::kTokens - 1][row] = row_of(p.length, tokens.second);
    rows.general_result[row] = result;
    rows.general_output[0][row] = row_of(out_length, p.output_of(tokens.first));
    rows.general_output[Kind::kTokens - 1][row] = row_of(out_length, p.output_of(tokens.second));
    rows.doubled = doubled;
    return result;
  }

  /// Numbers of a token's projections.
  __device__ __forceinline__ int projections() const { return p.directions * (p.rank + 2); }
  __device__ __forceinline__ void copy(const SweepPlace& place, int token, SweepTokens<Kind>& to) const {
    const int mine = __shfl_sync(0xffffffffu, token, lane_ / 2);
    const std::int64_t row = place.image * p.length + max(mine, 0);
    const bfloat16* from = p.projection + row * projections() + first_number_ + lane_ % 2 * 2;
    const std::uint32_t at = shared_address(&to.row[lane_ / 2][lane_ % 2 * 2]);
    each_word([&](int index, int) { copy_async_word(at + index * 8, from + index * 4, mine < 0); });
  }
  /// Each lane those words that it has copied.
  __device__ __forceinline__ void add_seconds(SweepTokens<Kind>& tokens) const {
    each_word([&](int, int word) {
      float sum[2], part[2];
      bfloat16* at = &tokens.row[lane_ / 2][2 * word];
      load_vector(at, sum);
      load_vector(&shared_.seconds.row[lane_ / 2][2 * word], part);
      sum[0] += part[0];
      sum[1] += part[1];
      store_vector(sum, at);
    });
  }
  __device__ __forceinline__ void put_BC(SweepTokens<Kind>& tokens) const {
    const int row = lane_ % kTile;
    const bfloat16* numbers = &tokens.row[row][skipped + p.rank];
    if (lane_ < kTile) {
      tokens.B[row] = kLn2 * to_real(numbers[0]);
    } else {
      tokens.C[row] = to_real(numbers[1]);
    }
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
  int first_number_;  ///< of a token's projections, in this direction's first word
  int words_;         ///< of a token
  SweepShared<Kind>& shared_;
};

}  // namespace qm::cuda
