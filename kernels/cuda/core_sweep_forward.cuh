// The forward sweep: y of two directions along an order (kernels/cuda/core_sweep.cuh).
#pragma once

#include "kernels/cuda/core_sweep.cuh"

namespace qm::cuda {

struct SweepForward {
  Sweep sweep;
  bfloat16* y;  ///< (batch, length, D), by token or by position
  bfloat16* z;  ///< (batch, out_height, out_width, D): where y does not lie by token, every token's; else null
};

template <class Kind>
struct SweepForwardShared {
  SweepTokens<Kind> tokens[2][2];  ///< direction, tile even or odd

  struct Warp {
    SweepTile u[2], partial[2];  ///< tile even or odd
    alignas(16) SweepScratch scratch;
  };
  static std::size_t bytes(int threads) { return sizeof(SweepForwardShared) + threads / kWarp * sizeof(Warp); }
  /// Those of the block lie behind this structure.
  __device__ __forceinline__ Warp& warp(int index) { return reinterpret_cast<Warp*>(this + 1)[index]; }
};

template <class Kind, bool kReversed>
class SweepForwardWalk {
 public:
  __device__ __forceinline__ SweepForwardWalk(const SweepForward& forward, SweepForwardShared<Kind>& shared)
      : f_(forward),
        w_(forward.sweep),
        mine_(shared.warp(warp_index())),
        tokens_(shared.tokens[kReversed]),
        delta_(forward.sweep, w_.k, w_.first_channel) {
    const std::int64_t at = static_cast<std::int64_t>(w_.k) * w_.p.channels + w_.channel;
    A_ = w_.active ? -expf(w_.p.weights.A_logs[at]) : 0.0f;
    bias_ = w_.active ? kLog2E * w_.p.weights.dt_bias[at] : 0.0f;
    skip_ = w_.active ? w_.p.weights.skip[at] : 0.0f;
  }

  /// Tiles are visited from this direction's start; the middle one of an odd number first by the direction that goes
  /// forwards.
  __device__ __forceinline__ void run() {
    const int tiles = w_.p.tiles, met = (tiles + (kReversed ? 0 : 1)) / 2;
    visit(0, met, w_.p.adds, false);
    __syncthreads();
    visit(met, tiles, true, true);
  }

 private:
  __device__ __forceinline__ int tile_of(int step) const { return kReversed ? w_.p.tiles - 1 - step : step; }

  __device__ __forceinline__ void start_copies(int step, bool reads, const int (&token)[2]) {
    w_.copy_rows(mine_.u[step % 2], w_.p.x, w_.p.length, token);
    if (reads) {
      int row[2];
      w_.result_rows(tile_of(step), token, row);
      w_.copy_rows(mine_.partial[step % 2], f_.y, w_.p.length, row);
    }
    commit_copies();
  }

  /// `reads`: what is there is added to; `completes`: the sums are y.
  __device__ __forceinline__ void visit(int first, int last, bool reads, bool completes) {
    if (first == last) return;
    int token[2], next[2];
    w_.load_tokens(tile_of(first), token);
    projections_.load(w_, tile_of(first));
    start_copies(first, reads, token);
    projections_.store(w_, tokens_[first % 2]);
    w_.group_barrier();
    for (int step = first; step < last; ++step) {
      const bool more = step + 1 < last;
      if (more) {
        w_.load_tokens(tile_of(step + 1), next);
        projections_.load(w_, tile_of(step + 1));
        start_copies(step + 1, reads, next);
        wait_copies<1>();
      } else {
        wait_copies<0>();
      }
      __syncwarp();
      w_.add_second(mine_.u[step % 2], w_.p.x, w_.p.length, tile_of(step), [](int t) { return t; });
      scan(tile_of(step), step % 2, reads);
      __syncwarp();
      store(tile_of(step), mine_.u[step % 2], token, completes);
      if (more) projections_.store(w_, tokens_[(step + 1) % 2]);
      w_.group_barrier();
      token[0] = next[0];
      token[1] = next[1];
    }
  }

  /// y of the tile takes u's place.
  __device__ __forceinline__ void scan(int tile, int parity, bool reads) {
    SweepTile& u_tile = mine_.u[parity];
    const SweepTokens<Kind>& tokens = tokens_[parity];
    delta_.fill(tokens, mine_.scratch);
    const int valid = w_.p.length - tile * kTile;
    if (valid < kTile) hide_tokens_from(valid, mine_.scratch);
    if (w_.p.states && w_.active) *w_.states_of(tile) = h_;
#pragma unroll
    for (int step = 0; step < kTile; ++step) {
      const int t = token_of_step<kReversed>(step);
      const float u = to_real(u_tile.row[t][w_.lane]);
      const float delta = softplus_base2(mine_.scratch[t][w_.lane] + bias_);
      h_ = exp2_fast(delta * A_) * h_ + delta * (tokens.B[t] * u);
      float y = tokens.C[t] * h_ + skip_ * u;
      if (reads) y += to_real(mine_.partial[parity].row[t][w_.lane]);
      u_tile.row[t][w_.lane] = from_real<bfloat16>(y);
    }
  }

  __device__ __forceinline__ void store(int tile, const SweepTile& y, const int (&token)[2], bool completes) const {
    int row[2];
    w_.result_rows(tile, token, row);
    w_.store_rows(y, f_.y, w_.p.length, row);
    if (!f_.z || !completes) return;
    const int outputs[2] = {w_.p.output_of(token[0]), w_.p.output_of(token[1])};
    w_.store_rows(y, f_.z, w_.p.out_length(), outputs);
    if (!w_.p.order.second) return;
    int second[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int position = tile * kTile + w_.chunk_row(half);
      second[half] = position < w_.p.length ? w_.p.output_of(w_.second()[position]) : -1;
    }
    w_.store_rows(y, f_.z, w_.p.out_length(), second);
  }

  const SweepForward& f_;
  SweepWarp<kReversed> w_;
  typename SweepForwardShared<Kind>::Warp& mine_;
  SweepTokens<Kind> (&tokens_)[2];
  SweepDelta<Kind> delta_;
  SweepProjections<Kind> projections_;
  float A_, bias_, skip_, h_ = 0;
};

/// δ's spare columns are multiplied by weights of 0: they only have to be finite.
template <class Kind>
__device__ __forceinline__ void clear_tokens(SweepTokens<Kind> (&tokens)[2][2]) {
  auto* words = reinterpret_cast<std::uint32_t*>(&tokens[0][0]);
  for (int i = threadIdx.x; i < static_cast<int>(sizeof tokens / sizeof *words); i += blockDim.x) words[i] = 0;
  __syncthreads();
}

// Grid (batch, channel blocks), block (2 · warps · 32): the first half of the warps goes forwards.
template <class Kind>
__global__ void __launch_bounds__(Kind::kThreads, 2) sweep_forward_kernel(const __grid_constant__ SweepForward f) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<SweepForwardShared<Kind>*>(memory);
  clear_tokens(shared.tokens);
  if (warp_index() < f.sweep.warps) {
    SweepForwardWalk<Kind, false>(f, shared).run();
  } else {
    SweepForwardWalk<Kind, true>(f, shared).run();
  }
}

inline void sweep_forward(const Stream& stream, const SweepForward& forward) {
  with_sweep_kind<false>(forward.sweep.rank, [&]<class Kind>() {
    const SweepGrid grid(forward.sweep.channels, Kind::kWarps);
    SweepForward f = forward;
    f.sweep.warps = grid.warps;
    launch_sweep("sweep_forward", stream, sweep_forward_kernel<Kind>, grid, f.sweep.batch,
                 SweepForwardShared<Kind>::bytes(grid.threads()), f);
  });
}

}  // namespace qm::cuda
