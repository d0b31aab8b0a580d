// The forward sweep: y of two directions along an order (kernels/cuda/core_sweep.cuh).
#pragma once

#include "kernels/cuda/core_sweep_scan.cuh"

namespace qm::cuda {

struct SweepForward {
  Sweep sweep;
  bfloat16* z;  ///< (batch, out_height, out_width, D): y, by token
};

template <class Kind>
struct SweepForwardShared {
  SweepShared<Kind> directions[2];

  static constexpr int kAhead = 2, kBuffers = 3;

  struct Warp {
    SweepTile u[kBuffers][Kind::kTokens];  ///< and positions' second tokens
    SweepTile partial[kBuffers];           ///< what y is added to
    SweepResults y;
    union {
      SweepWeights<Kind> weights;  ///< before the first tile
      SweepPreActivations x;
    };
  };
  QM_HOST_DEVICE static constexpr std::size_t bytes(int warps) {
    return sizeof(SweepForwardShared) + 2 * warps * sizeof(Warp);
  }
  /// Those of the block's scanning warps lie behind this structure.
  __device__ __forceinline__ Warp& warp(int index) { return reinterpret_cast<Warp*>(this + 1)[index]; }
};

/// What a scanning warp does.
template <class Kind>
class SweepForwardScan {
 public:
  __device__ __forceinline__ SweepForwardScan(const SweepForward& forward, SweepForwardShared<Kind>& shared)
      : f_(forward),
        w_(forward.sweep, false, shared.directions),
        mine_(shared.warp(warp_index())),
        weights_(load_weights(w_, mine_.weights)) {
    __syncwarp();  // the pre-activations take the weights' place
  }

  /// All images of the block, one after another.
  __device__ __forceinline__ void run() {
    w_.template walk<SweepForwardShared<Kind>::kBuffers, SweepForwardShared<Kind>::kAhead>(*this);
  }

  // ---- called by walk() ----

  static constexpr bool kLate = false;
  __device__ __forceinline__ void bring(const SweepPlace&, const SweepRows<Kind>& rows, int buffer) const {
    w_.copy_rows(w_.p.x, rows.token[0], mine_.u[buffer][0]);
#pragma unroll 1
    for (int i = 1; i < rows.tokens(); ++i) w_.copy_rows(w_.p.x, rows.token[i], mine_.u[buffer][i]);
  }
  __device__ __forceinline__ void bring_partial(const SweepRows<Kind>& rows, int buffer) const {
    w_.copy_rows(f_.z, rows.output(0), mine_.partial[buffer]);
  }
  __device__ __forceinline__ void take(const SweepRows<Kind>& rows, int buffer) const {
#pragma unroll 1
    for (int i = 1; i < rows.tokens(); ++i) w_.add_rows(mine_.u[buffer][0], mine_.u[buffer][i], rows.token[i]);
  }

  __device__ __forceinline__ void scan(const SweepPlace& place, const SweepTokens<Kind>& tokens, int buffer) {
    fill(tokens, weights_, mine_.x);
    const int tile = w_.tile_of(place);
    if (w_.has_end(tile)) hide_rows_beyond(w_, tile, mine_.x);
    if (place.step == 0) h_ = 0;
    if (w_.p.states && w_.is_active()) *w_.state_at(place) = h_;
    const bool adds = w_.adds(place);
    // First all that does not wait for the state before: the more there is of it, the less is waited for.
    HalfTile u[2], delta[2], y[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      HalfTile x;
      load_half(mine_.u[buffer][0], half, u[half]);
      load_half(mine_.x, half, x);
      if (adds) load_half(mine_.partial[buffer], half, y[half]);
#pragma unroll
      for (int i = 0; i < kTile / 2; ++i) {
        delta[half][i] = softplus_base2(kLog2E * x[i] + w_.bias);
        y[half][i] += w_.skip * u[half][i];
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      HalfTile B, C;
      load_half(tokens.B, half, B);
      load_half(tokens.C, half, C);
#pragma unroll
      for (int i = 0; i < kTile / 2; ++i) {
        h_ = exp2_fast(delta[half][i] * w_.A) * h_ + delta[half][i] * (B[i] * u[half][i]);
        y[half][i] += C[i] * h_;
      }
      store_half(y[half], half, mine_.y);
    }
  }

  __device__ __forceinline__ void store(const SweepPlace& place, const SweepRows<Kind>& rows) const {
    const auto chunks = w_.chunks_of(mine_.y);
    w_.store_rows(f_.z, rows.output(0), chunks);
    const int tokens = place.step < w_.meeting() ? 1 : rows.tokens();
#pragma unroll 1
    for (int i = 1; i < tokens; ++i) w_.store_rows(f_.z, rows.output(i), chunks);
  }

 private:
  const SweepForward& f_;
  SweepWarp<Kind> w_;
  typename SweepForwardShared<Kind>::Warp& mine_;
  SweepWeightFragments<Kind> weights_;
  float h_ = 0;
};

// Grid (image blocks, channel blocks), block (2 · (warps + 1) · 32).
template <class Kind>
__global__ void __launch_bounds__(Kind::kThreads, 1) sweep_forward_kernel(const __grid_constant__ SweepForward f) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<SweepForwardShared<Kind>*>(memory);
  prepare(shared.directions, f.sweep.warps, shared.bytes(f.sweep.warps));
  if (SweepDirection::brings_tokens(f.sweep)) {
    SweepTokenWarp<Kind>(f.sweep, false, shared.directions).run(shared.kAhead);
  } else {
    SweepForwardScan<Kind>(f, shared).run();
  }
}

/// kQuad: for the orders of a quadtree.
template <bool kQuad = false>
void sweep_forward(const Stream& stream, const SweepForward& forward) {
  with_sweep_kind<false, kQuad>(forward.sweep, [&]<class Kind>() {
    using Shared = SweepForwardShared<Kind>;
    const SweepGrid grid(forward.sweep.batch, forward.sweep.channels, warps_that_fit<Kind, Shared>());
    SweepForward f = forward;
    f.sweep.warps = grid.warps;
    launch_sweep("sweep_forward", stream, sweep_forward_kernel<Kind>, grid, Shared::bytes(grid.warps), f);
  });
}

}  // namespace qm::cuda
