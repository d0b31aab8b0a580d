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

/// What the copy warps of a direction move.
template <class Kind>
class SweepForwardCopies {
 public:
  __device__ __forceinline__ SweepForwardCopies(const SweepForward& forward, SweepForwardShared<Kind>& shared)
      : f_(forward),
        p_(forward.sweep),
        w_(p_, false, shared.directions[is_reversed(p_)]),
        tiles_(shared.warp(is_reversed(p_) ? p_.warps : 0)) {}

  /// All images of the block, one after another.
  __device__ __forceinline__ void bring() {
    unsigned uses = 0;
    for (std::int64_t image = blockIdx.x; image < p_.batch; image += gridDim.x) w_.bring(image, uses, *this);
  }
  __device__ __forceinline__ void store() {
    unsigned uses = 0;
    for (std::int64_t image = blockIdx.x; image < p_.batch; image += gridDim.x) w_.store(image, uses, *this);
  }

  // ---- called by these ----

  __device__ __forceinline__ void begin() {
    x_ = w_.image_of(p_.x, p_.length);
    y_ = w_.image_of(f_.y, p_.length);
    projections_ = kept(p_.projection + w_.projections_of_image());
  }
  __device__ __forceinline__ void start(const SweepPlaces& places, int buffer) const {
    w_.copy_rows(x_, w_.rows_of(places.first), tiles_.u[buffer]);
    if (w_.has_seconds(places)) w_.copy_rows(x_, w_.rows_of(places.second), tiles_.u[Kind::kTiles - 1]);
    w_.copy_projections(projections_, places, buffer);
  }
  __device__ __forceinline__ void start_partial(int tile, const SweepPlaces& places, int buffer) const {
    w_.copy_rows(y_, w_.results(tile, places), tiles_.y[buffer]);
  }
  __device__ __forceinline__ void put(const SweepPlaces& places, int buffer) const {
    if (w_.has_seconds(places)) w_.add_rows(tiles_.u[buffer], tiles_.u[Kind::kTiles - 1]);
    w_.put_projections(places, buffer);
  }
  __device__ __forceinline__ void finish(int step, const SweepPlaces& places, int buffer) const {
    w_.store_rows(y_, w_.results(w_.tile_of(step), places), tiles_.y[buffer]);
    if (Kind::kPlain || !f_.z || step < w_.meeting()) return;
    bfloat16* z = w_.image_of(f_.z, p_.out_length());
    w_.store_rows(z, w_.rows_of(w_.output_of(places.first)), tiles_.y[buffer]);
    if (w_.has_seconds(places)) w_.store_rows(z, w_.rows_of(w_.output_of(places.second)), tiles_.y[buffer]);
  }

 private:
  using Warp = typename SweepForwardShared<Kind>::Warp;

  const SweepForward& f_;
  const Sweep& p_;
  SweepCopyWarp<Kind, sizeof(Warp)> w_;
  Warp& tiles_;  ///< of the first warp
  const bfloat16* x_ = nullptr;
  bfloat16* y_ = nullptr;
  const bfloat16* projections_ = nullptr;
};

/// What the others do.
template <class Kind>
class SweepForwardScan {
 public:
  __device__ __forceinline__ SweepForwardScan(const SweepForward& forward, SweepForwardShared<Kind>& shared)
      : w_(forward.sweep, false), mine_(shared.warp(warp_index())), direction_(shared.directions[w_.reversed]) {
    load_weights(w_, mine_.weights);
  }

  /// All images of the block, one after another.
  __device__ __forceinline__ void run() {
    unsigned uses = 0;
    for (std::int64_t image = blockIdx.x; image < w_.p.batch; image += gridDim.x) {
      states_ = w_.p.states && w_.active ? w_.states(image) : nullptr;
      h_ = 0;
      w_.walk(direction_.signals, uses, [&](int step, int buffer) { scan(w_.tile_of(step), buffer, w_.adds(step)); });
    }
  }

 private:
  /// Half a tile at a time is read into registers first, so that the exponentials of its tokens do not wait for each
  /// other.
  __device__ __forceinline__ void scan(int tile, int buffer, bool adds) {
    const SweepTokens<Kind>& tokens = direction_.tokens[buffer];
    fill_pre_activations(tokens, mine_.weights, mine_.scratch);
    if (w_.has_end(tile)) hide_rows_beyond(w_, tile, mine_.scratch);
    if (states_) states_[static_cast<std::int64_t>(tile) * w_.p.channels] = h_;
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

  SweepWarp w_;
  typename SweepForwardShared<Kind>::Warp& mine_;
  SweepShared<Kind>& direction_;
  float* states_ = nullptr;
  float h_ = 0;
};

// Grid (image blocks, channel blocks), block (2 · (warps + 2) · 32).
template <class Kind>
__global__ void __launch_bounds__(Kind::kThreads, Kind::kForwardBlocks)
    sweep_forward_kernel(const __grid_constant__ SweepForward f) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<SweepForwardShared<Kind>*>(memory);
  prepare(shared.directions, f.sweep.warps, shared.bytes(f.sweep.warps));
  switch (sweep_role(f.sweep)) {
    case SweepRole::kScan: return SweepForwardScan<Kind>(f, shared).run();
    case SweepRole::kBring: return SweepForwardCopies<Kind>(f, shared).bring();
    case SweepRole::kStore: return SweepForwardCopies<Kind>(f, shared).store();
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
