// The forward sweep: y of two directions along an order (kernels/cuda/core_sweep.cuh).
#pragma once

#include "kernels/cuda/core_sweep_scan.cuh"

namespace qm::cuda {

struct SweepForward {
  Sweep sweep;
  bfloat16* y;  ///< (batch, length, D), by token or by position
  bfloat16* z;  ///< (batch, out_height, out_width, D): where y does not lie by token, every token's; else null
};

template <class Kind>
struct SweepForwardShared {
  SweepShared<Kind> directions[2];

  struct Warp {
    SweepTile u[Kind::kTiles];
    SweepTile y[2];  ///< a buffer each: what y is added to, if anything, and then y
    SweepWeights<Kind> weights;
    alignas(16) SweepScratch scratch;
  };
  QM_HOST_DEVICE static constexpr std::size_t bytes(int warps) { return sizeof(SweepForwardShared) + 2 * warps * sizeof(Warp); }
  /// Those of the block's scanning warps lie behind this structure.
  __device__ __forceinline__ Warp& warp(int index) { return reinterpret_cast<Warp*>(this + 1)[index]; }
};

/// What a scanning warp does.
template <class Kind>
class SweepForwardScan {
 public:
  __device__ __forceinline__ SweepForwardScan(const SweepForward& forward, SweepForwardShared<Kind>& shared)
      : f_(forward), w_(forward.sweep, false, shared.directions), mine_(shared.warp(warp_index())) {
    load_weights(w_, mine_.weights);
  }

  /// All images of the block, one after another.
  __device__ __forceinline__ void run() { w_.walk(*this); }

  // ---- called by walk() ----

  __device__ __forceinline__ void bring(const SweepRows<Kind>& rows, int buffer) const {
    w_.copy_rows(w_.p.x, rows.token[0], mine_.u[buffer]);
    if (rows.has_seconds()) w_.copy_rows(w_.p.x, rows.token[Kind::kTokens - 1], mine_.u[Kind::kTiles - 1]);
  }
  __device__ __forceinline__ void bring_partial(const SweepRows<Kind>& rows, int buffer) const {
    w_.copy_rows(f_.y, rows.result(), mine_.y[buffer]);
  }
  __device__ __forceinline__ void put(const SweepRows<Kind>& rows, int buffer) const {
    if (rows.has_seconds()) w_.add_tile(mine_.u[buffer], mine_.u[Kind::kTiles - 1]);
  }

  /// Half a tile at a time is read into registers first, so that the exponentials of its tokens do not wait for each
  /// other.
  __device__ __forceinline__ void scan(const SweepPlace& place, const SweepPlace&, const SweepTokens<Kind>& tokens,
                                       int buffer) {
    const int tile = w_.tile_of(place);
    fill_pre_activations(tokens, mine_.weights, mine_.scratch);
    if (w_.has_end(tile)) hide_rows_beyond(w_, tile, mine_.scratch);
    if (place.step == 0) h_ = 0;
    if (w_.p.states && w_.active) *w_.state_at(place) = h_;
    const bool adds = w_.adds(place);
#pragma unroll
    for (int first = 0; first < kTile; first += kTile / 2) {
      HalfTile u, y = {}, delta, B, C;
      load_half(u, mine_.u[buffer], first);
      load_half(B, tokens.B, first);
      load_half(C, tokens.C, first);
      if (adds) load_half(y, mine_.y[buffer], first);
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
      store_half(mine_.y[buffer], first, y);
    }
  }

  __device__ __forceinline__ void store(const SweepPlace& place, const SweepRows<Kind>& rows, int buffer) const {
    const SweepTile& y = mine_.y[buffer];
    w_.store_rows(f_.y, rows.result(), y);
    if (Kind::kPlain || !f_.z || place.step < w_.meeting()) return;
    w_.store_rows(f_.z, rows.output(0), y);
    if (rows.has_seconds()) w_.store_rows(f_.z, rows.output(Kind::kTokens - 1), y);
  }

 private:
  const SweepForward& f_;
  SweepWarp<Kind> w_;
  typename SweepForwardShared<Kind>::Warp& mine_;
  float h_ = 0;
};

// Grid (image blocks, channel blocks), block (2 · (warps + 1) · 32).
template <class Kind>
__global__ void __launch_bounds__(Kind::kThreads, Kind::kForwardBlocks)
    sweep_forward_kernel(const __grid_constant__ SweepForward f) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<SweepForwardShared<Kind>*>(memory);
  prepare(shared.directions, f.sweep.warps, shared.bytes(f.sweep.warps));
  if (SweepDirection::brings_tokens(f.sweep)) {
    SweepTokenWarp<Kind>(f.sweep, false, shared.directions).run([](int, unsigned) {});
  } else {
    SweepForwardScan<Kind>(f, shared).run();
  }
}

/// kGeneral: for orders of which `forward.sweep` may not be plain.
template <bool kGeneral = false>
void sweep_forward(const Stream& stream, const SweepForward& forward) {
  with_sweep_kind<false, kGeneral>(forward.sweep, [&]<class Kind>() {
    const SweepGrid grid(forward.sweep.batch, forward.sweep.channels, Kind::kWarps, Kind::kForwardBlocks);
    SweepForward f = forward;
    f.sweep.warps = grid.warps;
    launch_sweep("sweep_forward", stream, sweep_forward_kernel<Kind>, grid,
                 SweepForwardShared<Kind>::bytes(grid.warps), f);
  });
}

}  // namespace qm::cuda
