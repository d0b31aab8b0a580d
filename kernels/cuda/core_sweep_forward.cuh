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
  SweepPlaces places[2];           ///< direction
  SweepComing<Kind> coming[2];     ///< direction

  struct Warp {
    SweepTile u[Kind::kTiles], partial[2];
    SweepWeights<Kind> weights;
    alignas(16) SweepScratch scratch;
  };
  static std::size_t bytes(int threads) { return sizeof(SweepForwardShared) + threads / kWarp * sizeof(Warp); }
  /// Those of the block lie behind this structure.
  __device__ __forceinline__ Warp& warp(int index) { return reinterpret_cast<Warp*>(this + 1)[index]; }
};

template <class Kind>
class SweepForwardWalk {
 public:
  __device__ __forceinline__ SweepForwardWalk(const SweepForward& forward, SweepForwardShared<Kind>& shared)
      : f_(forward),
        w_(forward.sweep, shared.places),
        words_(w_),
        projections_(w_, shared.coming[w_.reversed]),
        mine_(shared.warp(warp_index())),
        tokens_(shared.tokens[w_.reversed]) {
    load_weights(w_, mine_.weights);
  }

  /// All images of the block, one after another.
  __device__ __forceinline__ void run() {
    for (std::int64_t image = blockIdx.x; image < w_.p.batch; image += gridDim.x) {
      w_.image = image;
      x_ = w_.rows_of(w_.p.x, w_.p.length);
      y_ = w_.rows_of(f_.y, w_.p.length);
      states_ = w_.p.states && w_.active ? w_.states() : nullptr;
      projections_.begin(w_);
      h_ = 0;
      walk();
    }
  }

 private:
  /// Every step brings what the next one needs, and the places of the one after; beyond the last there is nothing.
  __device__ __forceinline__ void walk() {
    const int steps = w_.p.tiles, meeting = w_.meeting(w_.reversed);
    for (int step = 0; step < 2; ++step) w_.put_places(tile_of(step), w_.find_places(tile_of(step)));
    w_.group_barrier();
    start_copies(0, w_.p.adds && meeting > 0);
    start_second_copies(0);
    wait_copies<0>();
    projections_.put(w_, words_, tokens_[0]);
    w_.group_barrier();
    for (int step = 0; step < steps; ++step) {
      const int tile = tile_of(step), next = step + 1;
      if (step == meeting) {
        __syncthreads();
        copy_partial(step);
        commit_copies();
      }
      const auto ahead = w_.find_places(tile_of(step + 2));
      start_copies(next, next > meeting || (w_.p.adds && next < meeting));
      wait_copies<1>();  // but for the next step's: where the directions meet, the partial results
      if (w_.has_seconds(tile)) w_.add_rows(mine_.u[step % 2], mine_.u[2]);
      __syncwarp();
      start_second_copies(next);
      scan(tile, step % 2, w_.p.adds || step >= meeting);
      __syncwarp();
      store(tile, mine_.u[step % 2], step >= meeting);
      wait_copies<0>();
      projections_.put(w_, words_, tokens_[next % 2]);
      w_.put_places(tile_of(step + 2), ahead);
      w_.group_barrier();
    }
    if (meeting == steps) __syncthreads();
  }

  __device__ __forceinline__ int tile_of(int step) const { return w_.tile_of(step, w_.reversed); }

  __device__ __forceinline__ void start_copies(int step, bool with_partial) {
    w_.copy_rows(mine_.u[step % 2], x_, [&](int row) { return w_.first(tile_of(step), row); });
    if (with_partial) copy_partial(step);
    projections_.copy(w_, words_, tile_of(step));
    commit_copies();
  }
  /// The tile of second tokens is free as soon as those of the step before have been added.
  __device__ __forceinline__ void start_second_copies(int step) {
    if constexpr (Kind::kPlain) return;
    const int tile = tile_of(step);
    if (w_.has_seconds(tile)) w_.copy_rows(mine_.u[2], x_, [&](int row) { return w_.second(tile, row); });
    commit_copies();
  }
  __device__ __forceinline__ void copy_partial(int step) {
    w_.copy_rows(mine_.partial[step % 2], {y_.front}, [&](int row) { return w_.result_of(tile_of(step), row); });
  }

  /// y of the tile takes u's place. Half a tile at a time is read into registers first, so that the exponentials of its
  /// tokens do not wait for each other.
  __device__ __forceinline__ void scan(int tile, int parity, bool adds) {
    SweepTile& u_tile = mine_.u[parity];
    const SweepTokens<Kind>& tokens = tokens_[parity];
    fill_pre_activations(tokens, mine_.weights, mine_.scratch);
    if (w_.has_end(tile)) hide_rows_beyond(w_, tile, mine_.scratch);
    if (states_) states_[static_cast<std::int64_t>(tile) * w_.p.channels] = h_;
#pragma unroll
    for (int first = 0; first < kTile; first += kTile / 2) {
      HalfTile u, y = {}, delta, B, C;
      load_half(u, u_tile, first);
      load_half(B, tokens.B, first);
      load_half(C, tokens.C, first);
      if (adds) load_half(y, mine_.partial[parity], first);
#pragma unroll
      for (int i = 0; i < kTile / 2; ++i) {
        delta[i] = softplus_base2(kLog2E * mine_.scratch[first + i][w_.lane] + w_.bias);
        y[i] += w_.skip * u[i];
      }
#pragma unroll
      for (int i = 0; i < kTile / 2; ++i) {
        h_ = exp2_fast(delta[i] * w_.A) * h_ + delta[i] * (B[i] * u[i]);
        y[i] += C[i] * h_;
      }
      store_half(u_tile, first, y);
    }
  }

  /// `completes`: the sums are y.
  __device__ __forceinline__ void store(int tile, const SweepTile& y, bool completes) const {
    w_.store_rows(y, y_, [&](int row) { return w_.result_of(tile, row); });
    if (Kind::kPlain || !f_.z || !completes) return;
    const auto z = w_.rows_of(f_.z, w_.p.out_length());
    w_.store_rows(y, z, [&](int row) { return w_.output_of(w_.first(tile, row)); });
    if (w_.p.order.second) w_.store_rows(y, z, [&](int row) { return w_.output_of(w_.second(tile, row)); });
  }

  const SweepForward& f_;
  SweepWarp<Kind> w_;
  const SweepWords<Kind> words_;
  SweepProjections<Kind> projections_;
  typename SweepForwardShared<Kind>::Warp& mine_;
  SweepTokens<Kind> (&tokens_)[2];
  SweepRows<const bfloat16> x_;
  SweepRows<bfloat16> y_;
  float* states_;
  float h_ = 0;
};

// Grid (image blocks, channel blocks), block (2 · warps · 32): the first half of the warps goes forwards.
template <class Kind>
__global__ void __launch_bounds__(Kind::kThreads, Kind::kForwardBlocks)
    sweep_forward_kernel(const __grid_constant__ SweepForward f) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<SweepForwardShared<Kind>*>(memory);
  clear_tokens(shared.tokens);
  SweepForwardWalk<Kind>(f, shared).run();
}

/// kGeneral: for orders of which `forward.sweep` may not be plain.
template <bool kGeneral = false>
void sweep_forward(const Stream& stream, const SweepForward& forward) {
  with_sweep_kind<false, kGeneral>(forward.sweep, [&]<class Kind>() {
    const SweepGrid grid(forward.sweep.batch, forward.sweep.channels, Kind::kWarps, Kind::kForwardBlocks);
    SweepForward f = forward;
    f.sweep.warps = grid.warps;
    launch_sweep("sweep_forward", stream, sweep_forward_kernel<Kind>, grid,
                 SweepForwardShared<Kind>::bytes(grid.threads()), f);
  });
}

}  // namespace qm::cuda
