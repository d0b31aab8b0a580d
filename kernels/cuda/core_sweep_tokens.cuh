// What all channels of a sweep share of a tile, and the warp that brings it (kernels/cuda/core_sweep.cuh).
#pragma once

#include "kernels/cuda/core_sweep.cuh"

namespace qm::cuda {

// ---- shared memory --------------------------------------------------------------------------------------------------

/// Rows of the tokens that those of a tile are compared with, and the tile's SweepCompared::role.
template <bool kCompares>
struct SweepComparedRows {
  alignas(8) int other[kTile], other_output[kTile], role[kTile];
};
template <>
struct SweepComparedRows<false> {};

/// Where a tile's tokens lie: rows of the maps, counted over all images; −1 where there is none.
template <class Kind>
struct SweepRows : SweepComparedRows<Kind::kCompares> {
  alignas(8) int token[Kind::kTokens][kTile];

  /// Of the map after the merge.
  __device__ __forceinline__ const int* output(int i) const { return Kind::kPlain ? token[i] : general_output[i]; }
  /// That the positions hold at most.
  __device__ __forceinline__ int tokens() const { return Kind::kPlain ? 1 : general_tokens; }
  /// Whether any position of a backward sweep has no token.
  __device__ __forceinline__ bool has_spares() const { return !Kind::kPlain && spared; }

  // Where the kind is not plain:
  alignas(8) int general_output[Kind::kTokens][kTile];
  alignas(8) int spare[kTile];  ///< of the projections' spare map, by position: where there is no token
  int general_tokens;
  bool spared;
};

/// A tile's (δ | B | C) in whole words as they lie in memory, so that `SweepDirection::skipped()` numbers before δ are
/// another direction's. What is not δ is multiplied by weights of 0: it only has to be finite. Rows have a spare chunk,
/// for (B | C) and to spread them over the banks.
template <class Kind>
struct SweepTokens {
  alignas(16) bfloat16 row[kTile][16 * Kind::kSteps + kChunk];
  alignas(16) float B[kTile], C[kTile];  ///< ln 2 · B, C
  SweepRows<Kind> rows;
};

/// Tiles of tokens that are kept, one after another in turn: those for which the maps' tiles are there or on their way,
/// and some ahead of them.
inline constexpr int kSweepSlots = 4;

/// The slot of the use'th tile of a block, and the parity of the times that it has been used before.
struct SweepSlot {
  int index;
  unsigned parity;

  __device__ __forceinline__ explicit SweepSlot(int use)
      : index(use % kSweepSlots), parity(static_cast<unsigned>(use / kSweepSlots % 2)) {}
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
        first_number_(k() * (p.rank + 2) - skipped()),
        words_((skipped() + p.rank + 3) / 2),
        shared_(directions[reversed]) {}

  /// Brings the tokens of every tile on the walk as soon as there is a slot. Says `ahead` tiles more to be there, for
  /// which the last scans wait.
  __device__ __forceinline__ void run(int ahead) const {
    run<false>(ahead, [](const SweepRows<Kind>&, int) {});
  }

  /// The same, and calls finish(rows, buffer) for every tile that has been scanned. The tiles have a buffer, 0 or 1 in
  /// turn: this is over before a tile is there which is three after.
  template <class Finish>
  __device__ __forceinline__ void run_and(int ahead, Finish finish) const {
    run<true>(ahead, finish);
  }

  /// Calls body(row of the tile, word, where that word of rows[row] lies in a map of projections) for the lane's words.
  template <class Body>
  __device__ __forceinline__ void each_word_of(const int* rows, Body body) const {
    const int row = lane_ / 2, to = rows[row];
    if (to < 0) return;
    const std::int64_t front = static_cast<std::int64_t>(to) * projections() + first_number_;
    each_word([&](int, int word) { body(row, word, front + 2 * word); });
  }

 private:
  template <bool kFinishes, class Finish>
  __device__ __forceinline__ void run(int ahead, Finish finish) const {
    constexpr int kLag = 3;  // tiles from one that is brought to one that is finished meanwhile
    SweepPlace place = start();
    Tokens next = look_up(place);
    for (int use = 0, beyond = 0; beyond < (kFinishes ? kLag : ahead); ++use) {
      const SweepSlot slot(use);
      SweepTokens<Kind>& tokens = shared_.tokens[slot.index];
      const bool brings = exists(place);
      bool doubled = false;
      if (use >= kSweepSlots) shared_.done[slot.index].wait(slot.parity ^ 1);
      if (brings) {
        const Tokens now = next;
        const SweepPlace following = after(place);
        next = look_up(following);
        doubled = has_seconds(now);
        put_rows(place, now, doubled, tokens.rows);
        copy(place, now.first, tokens);
        if (doubled) copy(place, now.second, shared_.seconds);
        commit_copies();
        place = following;
      }
      if (kFinishes && use >= kLag) {
        const SweepSlot scanned(use - kLag);
        shared_.done[scanned.index].wait(scanned.parity);
        finish(shared_.tokens[scanned.index].rows, (use - kLag) % 2);
      }
      if (brings) {
        wait_copies<0>();
        if (doubled) add_seconds(tokens);
        __syncwarp();
        put_BC(tokens);
      } else {
        ++beyond;
      }
      if (beyond <= ahead) shared_.full[slot.index].arrive();
    }
  }

  struct Tokens {
    int first, second;       ///< of an image; −1 where there is none
    SweepCompared compared;  ///< where the kind compares
  };

  __device__ __forceinline__ Tokens look_up(const SweepPlace& place) const {
    const int at = position(tile_of(place), lane_ % kTile);
    Tokens tokens{-1, -1, {-1, 0}};
    if (exists(place) && is_position(at)) {
      const std::int64_t from = std::int64_t{place.image} * p.order.stride + at;
      tokens.first = p.order.first[from];
      if (!Kind::kPlain && p.order.second) tokens.second = p.order.second[from];
      if constexpr (Kind::kCompares) tokens.compared = p.order.compared[from];
    }
    return tokens;
  }
  __device__ __forceinline__ bool has_seconds(const Tokens& tokens) const {
    return !Kind::kPlain && __any_sync(0xffffffffu, tokens.second >= 0);
  }

  __device__ __forceinline__ void put_rows(const SweepPlace& place, const Tokens& tokens, bool doubled,
                                           SweepRows<Kind>& rows) const {
    const int row = lane_ % kTile;
    const auto row_of = [&](int length, int at) { return at < 0 ? -1 : place.image * length + at; };
    rows.token[0][row] = row_of(p.length, tokens.first);
    if constexpr (Kind::kCompares) {
      rows.other[row] = row_of(p.length, tokens.compared.other);
      rows.other_output[row] = row_of(p.out_length(), p.output_of(tokens.compared.other));
      rows.role[row] = tokens.compared.role;
    }
    if constexpr (!Kind::kPlain) {
      const int at = position(tile_of(place), row);
      const int first = p.output_of(tokens.first), second = p.output_of(tokens.second);
      const bool spared = against && tokens.first < 0 && is_position(at);
      const bool swaps = !against && first < 0;  // a forward result lies at the first output that there is
      rows.token[1][row] = row_of(p.length, tokens.second);
      rows.general_output[0][row] = row_of(p.out_length(), swaps ? second : first);
      rows.general_output[1][row] = row_of(p.out_length(), swaps ? first : second);
      rows.spare[row] = row_of(p.length, spared ? at : -1);
      rows.general_tokens = doubled ? 2 : 1;
      rows.spared = __any_sync(0xffffffffu, spared);
    }
  }

  /// Numbers of a token's projections.
  __device__ __forceinline__ int projections() const { return p.directions * (p.rank + 2); }
  __device__ __forceinline__ void copy(const SweepPlace& place, int token, SweepTokens<Kind>& to) const {
    const int mine = __shfl_sync(0xffffffffu, token, lane_ / 2);
    const std::int64_t row = place.image * p.length + max(mine, 0);
    const bfloat16* from = p.projection + row * projections() + first_number_ + lane_ % 2 * 2;
    const std::uint32_t at = shared_address(&to.row[lane_ / 2][lane_ % 2 * 2]);
    each_word([&](int index, int) { copy_async_word(at + index * 8, from + index * 4, mine); });
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
    const bfloat16* numbers = &tokens.row[row][skipped() + p.rank];
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
    for (int index = 0; index < 2 * Kind::kColumns; ++index) {
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
