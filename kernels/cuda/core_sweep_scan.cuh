// What a scanning warp of a sweep does in either pass: its walk, its tiles of the maps, Δ (kernels/cuda/core_sweep.cuh).
#pragma once

#include "kernels/cuda/core_sweep_tokens.cuh"

namespace qm::cuda {

// ---- shared memory --------------------------------------------------------------------------------------------------

/// A warp's tile of one map.
struct SweepTile {
  alignas(16) bfloat16 row[kTile][kWarp];
};

/// dt_weight of a warp's channels, in the columns of SweepTokens' rows: 0 where no δ is.
template <class Kind>
struct SweepWeights {
  alignas(16) bfloat16 row[kWarp][16 * Kind::kSteps + kChunk];
};

/// A row of scratch for the pre-activations: 40 numbers apart, so that fragments are written without bank conflicts.
using SweepScratch = float[kTile][kWarp + 8];

// ---- the warp -------------------------------------------------------------------------------------------------------

/// A warp that scans: a lane is a channel. Of a tile that it moves, a lane takes chunk lane % 4 of rows lane / 4 and
/// lane / 4 + 8.
template <class Kind>
struct SweepWarp : SweepDirection {
  SweepShared<Kind>& shared;  ///< the direction's
  int warp, lane;             ///< within the direction, within the warp
  int channel;                ///< of the lane
  bool active;
  int column;           ///< of the lane's chunk
  bool moves;           ///< whether there is one
  float A, bias, skip;  ///< of the channel; log₂ e · dt_bias

  __device__ __forceinline__ SweepWarp(const Sweep& sweep, bool against, SweepShared<Kind> (&directions)[2])
      : SweepDirection(sweep, against),
        shared(directions[reversed]),
        warp(warp_index() - (reversed ? sweep.warps : 0)),
        lane(lane_index()),
        channel(first_channel + warp * kWarp + lane),
        active(channel < sweep.channels),
        column(channel - lane + lane % 4 * kChunk),
        moves(column < sweep.channels) {
    const std::int64_t at = static_cast<std::int64_t>(k) * p.channels + channel;
    A = active ? -expf(p.weights.A_logs[at]) : 0.0f;
    bias = active ? kLog2E * p.weights.dt_bias[at] : 0.0f;
    skip = active ? p.weights.skip[at] : 0.0f;
  }

  /// Where the lane's state before a tile lies.
  __device__ __forceinline__ float* state_at(const SweepPlace& place) const {
    return p.states + ((place.image * p.directions + k) * p.tiles + tile_of(place)) * p.channels + channel;
  }

  /// Walks all tiles, the maps' of each on their way while the one before is scanned. A tile has a buffer, 0 or 1 in
  /// turn. Of `maps`,
  ///   bring(rows, buffer)                 copies what is read for a tile behind the thread's back
  ///   bring_partial(rows, buffer)         copies the results that the tile's are added to
  ///   put(rows, buffer)                   all of that has arrived, each lane's own
  ///   scan(place, next, tokens, buffer)
  ///   store(place, rows, buffer)          stores the tile's results
  template <class Maps>
  __device__ __forceinline__ void walk(Maps& maps) const {
    SweepSlot slot, next_slot;
    SweepPlace place = start();
    shared.full[0].wait(0);
    bring(place, shared.tokens[0].rows, 0, maps);
    for (int buffer = 0; exists(place); buffer ^= 1) {
      const SweepTokens<Kind>& tokens = shared.tokens[slot.index];
      const SweepPlace next = after(place);
      next_slot.advance();
      if (place.step == meeting()) {
        meet();
        maps.bring_partial(tokens.rows, buffer);
        commit_copies();
      }
      wait_copies<0>();
      maps.put(tokens.rows, buffer);
      shared.full[next_slot.index].wait(next_slot.parity);  // beyond the last tile too: its scan may use what is shared
      __syncwarp();
      if (exists(next)) bring(next, shared.tokens[next_slot.index].rows, buffer ^ 1, maps);
      maps.scan(place, next, tokens, buffer);
      __syncwarp();
      maps.store(place, tokens.rows, buffer);
      shared.done[slot.index].arrive();
      if (place.step + 1 == p.tiles && meeting() == p.tiles) meet();
      place = next;
      slot = next_slot;
    }
  }

  // ---- rows of maps ----

  /// Copies rows to a tile, zeros where a row is −1.
  __device__ __forceinline__ void copy_rows(const bfloat16* map, const int* rows, SweepTile& to) const {
    const std::uint32_t at = shared_address(&to) + lane * 16;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = rows[lane / 4 + 8 * half];
      if (moves) copy_async(at + half * (sizeof(SweepTile) / 2), chunk_of(map, max(row, 0)), row < 0);
    }
  }
  __device__ __forceinline__ void store_rows(bfloat16* map, const int* rows, const SweepTile& from) const {
    const std::uint32_t at = shared_address(&from) + lane * 16;
    uint4 chunk[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) chunk[half] = load_shared(at + half * (sizeof(SweepTile) / 2));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = rows[lane / 4 + 8 * half];
      if (moves && row >= 0) *reinterpret_cast<uint4*>(chunk_of(map, row)) = chunk[half];
    }
  }
  /// Adds a tile to another, each lane the chunks that it has copied.
  __device__ __forceinline__ void add_tile(SweepTile& to, const SweepTile& added) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::uint32_t offset = lane * 16 + half * (sizeof(SweepTile) / 2);
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

 private:
  /// What the other direction stores from the meeting on is brought then.
  template <class Maps>
  __device__ __forceinline__ void bring(const SweepPlace& place, const SweepRows<Kind>& rows, int buffer,
                                        Maps& maps) const {
    maps.bring(rows, buffer);
    if (adds(place) && place.step != meeting()) maps.bring_partial(rows, buffer);
    commit_copies();
  }
  /// Waits for the other direction's warp of the same channels: what each has stored before, the other may read.
  __device__ __forceinline__ void meet() const { barrier_of(1 + warp, 2 * kWarp); }

  template <class Number>
  __device__ __forceinline__ Number* chunk_of(Number* map, int row) const {
    return map + static_cast<std::int64_t>(row) * p.channels + column;
  }
};

// ---- Δ --------------------------------------------------------------------------------------------------------------

template <class Kind>
__device__ __forceinline__ void load_weights(const SweepWarp<Kind>& w, SweepWeights<Kind>& to) {
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
template <class Kind>
__device__ __forceinline__ void hide_rows_beyond(const SweepWarp<Kind>& w, int tile, SweepScratch& scratch) {
  for (int row = 0; row < kTile; ++row) {
    if (!w.is_position(w.position(tile, row))) scratch[row][w.lane] = -1e4f;
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

}  // namespace qm::cuda
