// What a scanning warp of a sweep does in either pass: its walk, its tiles of the maps, Δ
// (kernels/cuda/core_sweep.cuh).
#pragma once

#include "kernels/cuda/core_sweep_tokens.cuh"

namespace qm::cuda {

// ---- shared memory --------------------------------------------------------------------------------------------------

/// A warp's tile of one map.
struct SweepTile {
  alignas(16) bfloat16 row[kTile][kWarp];
};

inline constexpr int kPairs = kTile / 2;  ///< of tokens of a tile: 2i and 2i + 1

/// Pre-activations of Δ, a pair's by channel. The spare columns spread what lanes access over the banks, here and
/// below.
struct SweepPreActivations {
  alignas(16) float2 pair[kPairs][kWarp + 8];
};
/// Results, a pair's by channel.
struct SweepResults {
  alignas(16) std::uint32_t pair[kPairs][kWarp + 4];
};

/// dt_weight of a warp's channels, in the columns of SweepTokens' rows: 0 where no δ is.
template <class Kind>
struct SweepWeights {
  alignas(16) bfloat16 row[kWarp][16 * Kind::kSteps + kChunk];
};

// ---- the warp -------------------------------------------------------------------------------------------------------

/// A warp that scans: a lane is a channel. Of a tile that it brings, a lane takes chunk lane % 4 of rows lane / 4 and
/// lane / 4 + 8; of one that it stores, the same chunk of the pair lane / 4.
template <class Kind>
struct SweepWarp : SweepDirection {
  SweepShared<Kind>& shared;  ///< the direction's
  int lane;
  int channel;          ///< of the lane
  float A, bias, skip;  ///< of the channel; log₂ e · dt_bias

  __device__ __forceinline__ SweepWarp(const Sweep& sweep, bool against, SweepShared<Kind> (&directions)[2])
      : SweepDirection(sweep, against),
        shared(directions[reversed]),
        lane(lane_index()),
        channel((static_cast<int>(blockIdx.y) * sweep.warps + warp()) * kWarp + lane) {
    const std::int64_t at = static_cast<std::int64_t>(k()) * p.channels + channel;
    A = is_active() ? -expf(p.weights.A_logs[at]) : 0.0f;
    bias = is_active() ? kLog2E * p.weights.dt_bias[at] : 0.0f;
    skip = is_active() ? p.weights.skip[at] : 0.0f;
  }

  /// Its number within the direction.
  __device__ __forceinline__ int warp() const { return warp_index() - (reversed ? p.warps : 0); }
  __device__ __forceinline__ int first_channel() const { return channel - lane; }
  __device__ __forceinline__ bool is_active() const { return channel < p.channels; }

  /// Where the lane's state before a tile lies.
  __device__ __forceinline__ float* state_at(const SweepPlace& place) const {
    const int row = (place.image * p.directions + k()) * p.tiles + tile_of(place);
    return p.states + static_cast<std::int64_t>(row) * p.channels + channel;
  }

  /// Walks all tiles. What is read for them comes kAhead tiles ahead. A tile has a buffer: each of kBuffers in
  /// turn. Of `maps`,
  ///   bring(place, rows, buffer)      copies what is read for a tile behind the thread's back
  ///   bring_partial(rows, buffer)     copies the results that the tile's are added to
  ///   bring_late(rows)                where Maps::kLate: copies more, when the tile before has been scanned
  ///   take(rows, buffer)              all of that but the last has arrived, for each lane what it has copied
  ///   scan(place, tokens, buffer)     one group of copies may be pending besides those of bring_late
  ///   store(place, rows)              the whole warp has scanned
  template <int kBuffers, int kAhead, class Maps>
  __device__ __forceinline__ void walk(Maps& maps) const {
    const auto buffer_of = [](int use) { return static_cast<int>(static_cast<unsigned>(use) % kBuffers); };
    SweepPlace place = start(), ahead = place;
    for (int use = 0; use < kAhead; ++use) {
      bring(ahead, use, use, false, maps);
      ahead = after(ahead);
    }
    bring_late(place, 0, maps);
    for (int use = 0; exists(place); ++use) {
      const SweepTokens<Kind>& tokens = tokens_of(use);
      if (place.step == meeting()) {
        // What the other direction stores until the meeting could not be brought before.
        meet();
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
          if (place.step + i < p.tiles) maps.bring_partial(tokens_of(use + i).rows, buffer_of(use + i));
        }
        commit_copies();
        wait_copies<0>();
      } else {
        wait_copies<kAhead - 1 + (Maps::kLate ? 1 : 0)>();
      }
      maps.take(tokens.rows, buffer_of(use));
      __syncwarp();
      ahead = after(place);
#pragma unroll
      for (int i = 1; i < kAhead; ++i) ahead = after(ahead);
      const bool has_met = place.image == ahead.image && place.step >= meeting();
      bring(ahead, use + kAhead, buffer_of(use + kAhead), has_met, maps);
      maps.scan(place, tokens, buffer_of(use));
      __syncwarp();
      const SweepPlace next = after(place);
      bring_late(next, use + 1, maps);
      maps.store(place, tokens.rows);
      shared.done[SweepSlot(use).index].arrive();
      if (place.step + 1 == p.tiles && meeting() == p.tiles) meet();
      place = next;
    }
  }

  // ---- rows of maps ----

  /// Copies the lane's chunks to a tile, zeros where a row is −1.
  __device__ __forceinline__ void copy_rows(const bfloat16* map, const int* rows, SweepTile& to) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = rows[lane / 4 + 8 * half];
      copy_chunk(chunk_of(map, max(row, 0)), row, half, to);
    }
  }
  /// Adds a tile to another, each lane the chunks that it has copied, but for rows of −1.
  __device__ __forceinline__ void add_rows(SweepTile& to, const SweepTile& added, const int* rows) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (rows[lane / 4 + 8 * half] < 0) continue;
      const std::uint32_t offset = lane * 16 + half * sizeof(SweepTile) / 2;
      const uint4 chunks[2] = {load_shared(shared_address(&to) + offset), load_shared(shared_address(&added) + offset)};
      float sum[kChunk], part[kChunk];
      load_vector(reinterpret_cast<const bfloat16*>(&chunks[0]), sum);
      load_vector(reinterpret_cast<const bfloat16*>(&chunks[1]), part);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) sum[i] += part[i];
      uint4 packed;
      store_vector(sum, reinterpret_cast<bfloat16*>(&packed));
      store_shared(packed, shared_address(&to) + offset);
    }
  }

  /// The lane's chunks of results, of either token of a pair.
  struct Chunks {
    uint4 row[2];
  };
  __device__ __forceinline__ Chunks chunks_of(const SweepResults& results) const {
    Chunks chunks;
    std::uint32_t channels[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; i += 4) {
      const uint4 four = load_shared(shared_address(&results.pair[lane / 4][lane % 4 * kChunk + i]));
      channels[i] = four.x;
      channels[i + 1] = four.y;
      channels[i + 2] = four.z;
      channels[i + 3] = four.w;
    }
    const auto first = [&](int i) { return __byte_perm(channels[i], channels[i + 1], 0x5410); };
    const auto second = [&](int i) { return __byte_perm(channels[i], channels[i + 1], 0x7632); };
    return {
        {make_uint4(first(0), first(2), first(4), first(6)), make_uint4(second(0), second(2), second(4), second(6))}};
  }
  /// Rows of −1 are left out.
  __device__ __forceinline__ void store_rows(bfloat16* map, const int* rows, const Chunks& chunks) const {
    const int2 pair = *reinterpret_cast<const int2*>(rows + lane / 4 * 2);
    if (moves() && pair.x >= 0) *reinterpret_cast<uint4*>(chunk_of(map, pair.x)) = chunks.row[0];
    if (moves() && pair.y >= 0) *reinterpret_cast<uint4*>(chunk_of(map, pair.y)) = chunks.row[1];
  }

 private:
  __device__ __forceinline__ const SweepTokens<Kind>& tokens_of(int use) const {
    return shared.tokens[SweepSlot(use).index];
  }
  /// Brings the use'th tile. Waits for its tokens beyond the last tile too: the scan of one before may then use what
  /// all warps share. has_met: whether the directions have met in its image.
  template <class Maps>
  __device__ __forceinline__ void bring(const SweepPlace& place, int use, int buffer, bool has_met, Maps& maps) const {
    const SweepSlot slot(use);
    shared.full[slot.index].wait(slot.parity);
    if (exists(place)) {
      const SweepRows<Kind>& rows = shared.tokens[slot.index].rows;
      maps.bring(place, rows, buffer);
      if (has_met || (p.adds && place.step < meeting())) maps.bring_partial(rows, buffer);
    }
    commit_copies();
  }
  /// The use'th tile's tokens have been waited for.
  template <class Maps>
  __device__ __forceinline__ void bring_late(const SweepPlace& place, int use, Maps& maps) const {
    if constexpr (Maps::kLate) {
      if (exists(place)) maps.bring_late(tokens_of(use).rows);
      commit_copies();
    }
  }
  /// Waits for the other direction's warp of the same channels: what each has stored before, the other may read.
  __device__ __forceinline__ void meet() const {
    barrier_of(1 + warp(), 2 * kWarp);
  }

  /// Of the lane's chunk, and whether there is one.
  __device__ __forceinline__ int column() const {
    return first_channel() + lane % 4 * kChunk;
  }
  __device__ __forceinline__ bool moves() const {
    return column() < p.channels;
  }

  __device__ __forceinline__ void copy_chunk(const bfloat16* from, int row, int half, SweepTile& to) const {
    copy_async(shared_address(&to) + lane * 16 + half * sizeof(SweepTile) / 2, from, moves() ? row : -1);
  }
  template <class Number>
  __device__ __forceinline__ Number* chunk_of(Number* map, int row) const {
    const unsigned row_bytes = static_cast<unsigned>(p.channels) * sizeof(Number);
    using Byte = std::conditional_t<std::is_const_v<Number>, const char, char>;
    return reinterpret_cast<Number*>(reinterpret_cast<Byte*>(map + column()) +
                                     std::uint64_t{static_cast<unsigned>(row)} * row_bytes);
  }
};

// ---- Δ --------------------------------------------------------------------------------------------------------------

/// To `to`, which it returns, for the whole warp to read.
template <class Kind>
__device__ __forceinline__ const SweepWeights<Kind>& load_weights(const SweepWarp<Kind>& w, SweepWeights<Kind>& to) {
  const Sweep& p = w.p;
  const int first_channel = w.first_channel(), skipped = w.skipped();
  const std::int64_t front = (static_cast<std::int64_t>(w.k()) * p.channels + first_channel) * p.rank;
  for (int i = w.lane; i < kWarp * 16 * Kind::kSteps; i += kWarp) {
    const int channel = i / (16 * Kind::kSteps), r = i % (16 * Kind::kSteps) - skipped;
    const bool exists = first_channel + channel < p.channels && r >= 0 && r < p.rank;
    to.row[channel][r + skipped] =
        from_real<bfloat16>(exists ? p.weights.dt_weight[front + channel * p.rank + r] : 0.0f);
  }
  __syncwarp();
  return to;
}

/// dt_weight as second factors (R × 32 channels).
template <class Kind>
struct SweepWeightFragments {
  FragmentB step[Kind::kSteps][4];

  __device__ __forceinline__ explicit SweepWeightFragments(const SweepWeights<Kind>& weights) {
    const int lane = lane_index();
#pragma unroll
    for (int s = 0; s < Kind::kSteps; ++s) {
#pragma unroll
      for (int n = 0; n < 4; n += 2) {
        FragmentB two[2];
        load_matrices(two, &weights.row[8 * n + lane / 16 * 8 + lane % 8][16 * s + lane / 8 % 2 * 8]);
        step[s][n] = two[0];
        step[s][n + 1] = two[1];
      }
    }
  }
};

/// The pre-activations of a tile without bias, (16 tokens × R) (R × 32 channels), for the whole warp to read. The first
/// factor has the first token of a pair as row g and the second as row g + 8, so that a lane gets both.
template <class Kind>
__device__ __forceinline__ void fill(const SweepTokens<Kind>& tokens, const SweepWeightFragments<Kind>& weights,
                                     SweepPreActivations& to) {
  const unsigned lane = lane_again(), g = lane / 4, q = lane % 4;
  float x[4][4] = {};
#pragma unroll
  for (int s = 0; s < Kind::kSteps; ++s) {
    FragmentA delta;
    load_matrices(delta.a, &tokens.row[lane % 8 * 2 + lane / 8 % 2][16 * s + lane / 16 * 8]);
#pragma unroll
    for (int n = 0; n < 4; ++n) multiply_add(x[n], delta, weights.step[s][n]);
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    *reinterpret_cast<float4*>(&to.pair[g][8 * n + 2 * q]) = make_float4(x[n][0], x[n][2], x[n][1], x[n][3]);
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
__device__ __forceinline__ void hide_rows_beyond(const SweepWarp<Kind>& w, int tile, SweepPreActivations& x) {
  for (int row = 0; row < kTile; ++row) {
    float2& pair = x.pair[row / 2][w.lane];
    if (!w.is_position(w.position(tile, row))) (row % 2 == 0 ? pair.x : pair.y) = -1e4f;
  }
}

// ---- numbers of a lane's channel ------------------------------------------------------------------------------------

/// Of half a tile's tokens, which begin at row 0 or 8.
using HalfTile = float[kTile / 2];

__device__ __forceinline__ void load_half(const SweepTile& tile, int half, HalfTile& to) {
#pragma unroll
  for (int i = 0; i < kTile / 2; ++i) to[i] = to_real(tile.row[half * kTile / 2 + i][lane_index()]);
}
__device__ __forceinline__ void load_half(const SweepPreActivations& x, int half, HalfTile& to) {
#pragma unroll
  for (int i = 0; i < kPairs / 2; ++i) {
    const float2 pair = x.pair[half * kPairs / 2 + i][lane_index()];
    to[2 * i] = pair.x;
    to[2 * i + 1] = pair.y;
  }
}
/// Of numbers that all channels share.
__device__ __forceinline__ void load_half(const float (&numbers)[kTile], int half, HalfTile& to) {
#pragma unroll
  for (int i = 0; i < kTile / 2; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(&numbers[half * kTile / 2 + i]);
    to[i] = four.x;
    to[i + 1] = four.y;
    to[i + 2] = four.z;
    to[i + 3] = four.w;
  }
}
__device__ __forceinline__ void store_half(const HalfTile& from, int half, SweepResults& to) {
#pragma unroll
  for (int i = 0; i < kPairs / 2; ++i) {
    to.pair[half * kPairs / 2 + i][lane_index()] = pack_bf16(from[2 * i], from[2 * i + 1]);
  }
}

}  // namespace qm::cuda
