// The backward sweep: all gradients of two directions along an order (kernels/cuda/core_sweep.cuh).
//
// A direction is walked against its sense. A tile's states are made again from the one before it, which the forward
// sweep has left. Then, against the sense, with g_l the gradient of h_l and c_l = a_l g_l what is left of it at l − 1:
//
//   g_l = C_l ∂y_l + c_{l+1}          ∂C_l = Σ_d ∂y_l h_l          ∂B_l = Σ_d g_l Δ_l u_l
//   ∂u_l = g_l Δ_l B_l + D ∂y_l       ∂Δ_l = g_l (B_l u_l + A a_l h_{l−1}),   a_l h_{l−1} = h_l − Δ_l B_l u_l
//   ∂x_l = ∂Δ_l σ(x_l)                ∂δ_l = Σ_d ∂x_l dt_weight,   ∂dt_weight = Σ_l ∂x_l δ_l,   ∂dt_bias = Σ_l ∂x_l
//   ∂A = Σ_l g_l a_l h_{l−1} Δ_l      ∂D = Σ_l ∂y_l u_l
//
// (x is Δ's pre-activation.) The products under Σ_d and ∂x are rounded to bfloat16, and summed by the tensor cores in
// float.
#pragma once

#include "kernels/cuda/core_sweep_scan.cuh"

namespace qm::cuda {

struct SweepBackward {
  Sweep sweep;
  const bfloat16* grad_z;     ///< (batch, out_height, out_width, D)
  bfloat16* grad_s;           ///< (batch, length, D), by token or by position
  bfloat16* grad_projection;  ///< (batch, length, K, R + 2), likewise; null where there are several channel blocks, and
  float* partial_projection;  ///< (channel blocks, batch, length, K, R + 2) instead
  float* weight_sums;         ///< (image blocks, PackedScanGradients::width)
};

/// A warp's share of the sums over channels of a tile.
template <class Kind>
struct SweepShares {
  alignas(8) float sum[kTile * (8 * Kind::kRankTiles + 2)];

  /// Where ∂δ (16, 8 · kRankTiles, in the columns of SweepTokens' rows) and (∂B / ln 2 | ∂C) (16, 2) lie.
  __device__ __forceinline__ static int rank_at(int row, int column) { return row * 8 * Kind::kRankTiles + column; }
  __device__ __forceinline__ static int BC_at(int row, int column) { return rank_at(kTile, 2 * row + column); }
};

/// (channel, token) in rows of 24, so that fragments are read without bank conflicts.
using SweepProduct = bfloat16[kWarp][kTile + 8];

template <class Kind>
struct SweepBackwardShared {
  SweepShared<Kind> directions[2];
  SweepShares<Kind> shares[2][2][Kind::kWarps];  ///< direction, buffer

  struct Warp {
    SweepTile u[Kind::kTiles], grad_y[Kind::kTiles];
    SweepTile grad_u[2];  ///< a buffer each: what ∂u is added to, if anything, and then ∂u
    SweepWeights<Kind> weights;
    union {
      alignas(16) SweepScratch scratch;
      alignas(16) SweepProduct product[3];  ///< ∂x, and the terms of ∂B and ∂C
    };
  };
  QM_HOST_DEVICE static constexpr std::size_t bytes(int warps) { return sizeof(SweepBackwardShared) + 2 * warps * sizeof(Warp); }
  __device__ __forceinline__ Warp& warp(int index) { return reinterpret_cast<Warp*>(this + 1)[index]; }
};

/// What the token warp of a direction does with the shares of a tile when all have been written: it stores their sums.
template <class Kind>
class SweepShareSums {
 public:
  using Shares = SweepShares<Kind>[2][Kind::kWarps];  ///< of a direction; tile after tile uses one buffer, then the other

  __device__ __forceinline__ SweepShareSums(const SweepBackward& backward, const SweepDirection& direction,
                                            const Shares& shares)
      : b_(backward), p_(backward.sweep), skipped_(direction.skipped), shares_(shares) {}

  /// `word`: of a row of the tile; `at`: where it lies in grad_projection.
  __device__ __forceinline__ void store(int row, int word, int buffer, std::int64_t at) const {
    const int column = 2 * word - skipped_;  // of (δ | B | C)
    store_word(column, sum(row, column, buffer), sum(row, column + 1, buffer), at);
  }

 private:
  /// 0 where the column is not one.
  __device__ __forceinline__ float sum(int row, int column, int buffer) const {
    if (!is_column(column)) return 0.0f;
    const int from = column < p_.rank ? SweepShares<Kind>::rank_at(row, column + skipped_)
                                      : SweepShares<Kind>::BC_at(row, column - p_.rank);
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < Kind::kWarps; ++warp) {
      const float share = shares_[buffer][warp].sum[from];  // read in any case, so that none waits for the one before
      sum += warp < p_.warps ? share : 0.0f;
    }
    return column == p_.rank ? kLn2 * sum : sum;
  }
  /// Half of a direction's first or last word may be another's.
  __device__ __forceinline__ void store_word(int column, float low, float high, std::int64_t at) const {
    const bool first = is_column(column), second = is_column(column + 1);
    if (!b_.grad_projection) {
      float* to = b_.partial_projection + blockIdx.y * (p_.batch * p_.length * p_.directions * (p_.rank + 2)) + at;
      if (first) to[0] = low;
      if (second) to[1] = high;
    } else if (first && second) {
      *reinterpret_cast<std::uint32_t*>(b_.grad_projection + at) = pack_bf16(low, high);
    } else if (first) {
      b_.grad_projection[at] = from_real<bfloat16>(low);
    } else if (second) {
      b_.grad_projection[at + 1] = from_real<bfloat16>(high);
    }
  }
  __device__ __forceinline__ bool is_column(int column) const {
    return static_cast<unsigned>(column) < static_cast<unsigned>(p_.rank + 2);
  }

  const SweepBackward& b_;
  const Sweep& p_;
  int skipped_;
  const Shares& shares_;
};

/// Sums of a tile's products over a warp's channels, and of ∂x δ over tokens.
template <class Kind>
class SweepSums {
 public:
  __device__ __forceinline__ explicit SweepSums(const SweepDirection& direction)
      : rank_(direction.p.rank), skipped_(direction.skipped) {}

  __device__ __forceinline__ void over_channels(const SweepProduct (&product)[3], const SweepWeights<Kind>& weights,
                                                SweepShares<Kind>& share) const {
    const int lane = lane_index(), g = lane / 4, q = lane % 4;
    float sum[Kind::kRankTiles][4] = {}, sum_BC[4] = {};
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      FragmentA factor[3];
      const int channel = 16 * s + lane / 16 * 8 + lane % 8, token = lane / 8 % 2 * 8;
#pragma unroll
      for (int i = 0; i < 3; ++i) load_transposed(factor[i].a, &product[i][channel][token]);
#pragma unroll
      for (int n = 0; n < Kind::kRankTiles; n += 2) {
        FragmentB weight[2];
        load_transposed(weight, &weights.row[16 * s + lane % 16][8 * n + lane / 16 * 8]);
        multiply_add(sum[n], factor[0], weight[0]);
        if (n + 1 < Kind::kRankTiles) multiply_add(sum[n + 1], factor[0], weight[1]);
      }
      multiply_add(sum_BC, factor[1], ones_in(0));
      multiply_add(sum_BC, factor[2], ones_in(1));
    }
    const auto put = [&](int at, float first, float second) {
      *reinterpret_cast<float2*>(&share.sum[at]) = make_float2(first, second);
    };
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = g + 8 * half, i = 2 * half;
#pragma unroll
      for (int n = 0; n < Kind::kRankTiles; ++n) put(share.rank_at(row, 8 * n + 2 * q), sum[n][i], sum[n][i + 1]);
      if (q == 0) put(share.BC_at(row, 0), sum_BC[i], sum_BC[i + 1]);
    }
  }

  /// ∂dt_weight (32 channels, R) += ∂xᵀ δ.
  __device__ __forceinline__ void over_tokens(const SweepProduct& grad_x, const SweepTokens<Kind>& tokens) {
    const int lane = lane_index();
    FragmentA grad[2];
#pragma unroll
    for (int m = 0; m < 2; ++m) load_matrices(grad[m].a, &grad_x[16 * m + lane % 16][lane / 16 * 8]);
#pragma unroll
    for (int n = 0; n < Kind::kRankTiles; ++n) {
      FragmentB delta;
      load_transposed(delta.b, &tokens.row[lane % 16][8 * n]);
#pragma unroll
      for (int m = 0; m < 2; ++m) multiply_add(grad_weight_[m][n], grad[m], delta);
    }
  }

  /// To (R, D), beginning at the warp's first channel.
  __device__ __forceinline__ void store_grad_weight(float* to, int channels, int first_channel) const {
    const int g = lane_index() / 4, q = lane_index() % 4;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < Kind::kRankTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int channel = 16 * m + g + i / 2 * 8, r = 8 * n + 2 * q + i % 2 - skipped_;
          if (r >= 0 && r < rank_ && first_channel + channel < channels) {
            to[static_cast<std::int64_t>(r) * channels + channel] = grad_weight_[m][n][i];
          }
        }
      }
    }
  }

 private:
  /// A second factor (channels × 8) that sums into one column.
  __device__ __forceinline__ static FragmentB ones_in(int column) {
    const std::uint32_t pair = lane_index() / 4 == column ? 0x3f803f80u : 0u;
    return {{pair, pair}};
  }

  int rank_, skipped_;
  float grad_weight_[2][Kind::kRankTiles][4] = {};
};

/// What a scanning warp does.
template <class Kind>
class SweepBackwardScan {
 public:
  __device__ __forceinline__ SweepBackwardScan(const SweepBackward& backward, SweepBackwardShared<Kind>& shared)
      : b_(backward),
        w_(backward.sweep, true, shared.directions),
        mine_(shared.warp(warp_index())),
        shares_(shared.shares[w_.reversed]),
        sums_(w_) {
    load_weights(w_, mine_.weights);
  }

  /// All images of the block, one after another; their weights' gradients are summed on the way.
  __device__ __forceinline__ void run() {
    before_ = state_before(w_.start());
    w_.walk(*this);
    store_weight_sums();
  }

  // ---- called by walk() ----

  __device__ __forceinline__ void bring(const SweepRows<Kind>& rows, int buffer) const {
    w_.copy_rows(w_.p.x, rows.token[0], mine_.u[buffer]);
    w_.copy_rows(b_.grad_z, rows.output(0), mine_.grad_y[buffer]);
    if (!rows.has_seconds()) return;
    w_.copy_rows(w_.p.x, rows.token[Kind::kTokens - 1], mine_.u[Kind::kTiles - 1]);
    w_.copy_rows(b_.grad_z, rows.output(Kind::kTokens - 1), mine_.grad_y[Kind::kTiles - 1]);
  }
  __device__ __forceinline__ void bring_partial(const SweepRows<Kind>& rows, int buffer) const {
    w_.copy_rows(b_.grad_s, rows.result(), mine_.grad_u[buffer]);
  }
  __device__ __forceinline__ void put(const SweepRows<Kind>& rows, int buffer) const {
    if (!rows.has_seconds()) return;
    w_.add_tile(mine_.u[buffer], mine_.u[Kind::kTiles - 1]);
    w_.add_tile(mine_.grad_y[buffer], mine_.grad_y[Kind::kTiles - 1]);
  }
  __device__ __forceinline__ void scan(const SweepPlace& place, const SweepPlace& next,
                                       const SweepTokens<Kind>& tokens, int buffer) {
    const float before_next = state_before(next);
    if (place.step == 0) carry_ = 0;
    scan(w_.tile_of(place), tokens, buffer, w_.adds(place));
    __syncwarp();
    sums_.over_channels(mine_.product, mine_.weights, shares_[buffer][w_.warp]);
    sums_.over_tokens(mine_.product[0], tokens);
    before_ = before_next;
  }
  __device__ __forceinline__ void store(const SweepPlace&, const SweepRows<Kind>& rows, int buffer) const {
    w_.store_rows(b_.grad_s, rows.result(), mine_.grad_u[buffer]);
  }

 private:
  /// The state before a tile, 0 beyond the last; on its way from memory while the tile before is scanned.
  __device__ __forceinline__ float state_before(const SweepPlace& place) const {
    return w_.active && w_.exists(place) ? *w_.state_at(place) : 0.0f;
  }

  /// Fills the products too. Half a tile at a time is read into registers first, so that its tokens do not wait for
  /// each other's stores.
  __device__ __forceinline__ void scan(int tile, const SweepTokens<Kind>& tokens, int buffer, bool adds) {
    fill_pre_activations(tokens, mine_.weights, mine_.scratch);
    if (w_.has_end(tile)) hide_rows_beyond(w_, tile, mine_.scratch);

    HalfTile delta[2], h[2];
    float state = before_;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int first = half * kTile / 2;
      HalfTile u, B;
      load_half(u, mine_.u[buffer], first);
      load_half(B, tokens.B, first);
#pragma unroll
      for (int i = 0; i < kTile / 2; ++i) {
        delta[half][i] = softplus_base2(kLog2E * mine_.scratch[first + i][w_.lane] + w_.bias);
      }
#pragma unroll
      for (int i = 0; i < kTile / 2; ++i) {
        state = exp2_fast(delta[half][i] * w_.A) * state + delta[half][i] * (B[i] * u[i]);
        h[half][i] = state;
      }
    }
    __syncwarp();  // the products take the scratch's place

#pragma unroll
    for (int half = 1; half >= 0; --half) {
      const int first = half * kTile / 2;
      HalfTile u, grad_y, grad_u, B, C;  // u and a again: registers are scarcer
      load_half(u, mine_.u[buffer], first);
      load_half(grad_y, mine_.grad_y[buffer], first);
      load_half(B, tokens.B, first);
      load_half(C, tokens.C, first);
      std::uint32_t pairs[3][kTile / 4];  // ∂x, and the terms of ∂B and ∂C
#pragma unroll
      for (int pair = kTile / 4 - 1; pair >= 0; --pair) {
        float grad_x[2], of_B[2], of_C[2];
#pragma unroll
        for (int odd = 1; odd >= 0; --odd) {
          const int i = 2 * pair + odd;
          const float d = delta[half][i], g = C[i] * grad_y[i] + carry_, gd = g * d;
          const float Bu = B[i] * u[i], from_before = h[half][i] - d * Bu;
          carry_ = g * exp2_fast(d * w_.A);
          of_B[odd] = gd * u[i];
          of_C[odd] = grad_y[i] * h[half][i];
          grad_u[i] = gd * B[i] + w_.skip * grad_y[i];
          // In base 2: B carries ln 2, so does A here, and the sigmoid takes it out again.
          grad_x[odd] = g * (Bu + A_ln2_ * from_before) * (kLog2E - kLog2E * exp2_fast(-d));
          grad_A_ += gd * from_before;
          grad_bias_ += grad_x[odd];
          grad_skip_ += grad_y[i] * u[i];
        }
        pairs[0][pair] = pack_bf16(grad_x[0], grad_x[1]);
        pairs[1][pair] = pack_bf16(of_B[0], of_B[1]);
        pairs[2][pair] = pack_bf16(of_C[0], of_C[1]);
      }
      if (adds) {
        HalfTile partial;
        load_half(partial, mine_.grad_u[buffer], first);
#pragma unroll
        for (int i = 0; i < kTile / 2; ++i) grad_u[i] += partial[i];
      }
      store_half(mine_.grad_u[buffer], first, grad_u);
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        *reinterpret_cast<uint4*>(&mine_.product[i][w_.lane][first]) =
            make_uint4(pairs[i][0], pairs[i][1], pairs[i][2], pairs[i][3]);
      }
    }
  }

  __device__ __forceinline__ void store_weight_sums() const {
    const Sweep& p = w_.p;
    const ScanShape shape{p.directions, p.channels, 1, p.rank};
    const PackedScanGradients to(shape, b_.weight_sums + blockIdx.x * PackedScanGradients::width(shape));
    const std::int64_t at = static_cast<std::int64_t>(w_.k) * p.channels + w_.channel;
    if (w_.active) {
      to.A[at] = kLn2 * grad_A_;
      to.dt_bias[at] = grad_bias_;
      to.skip[at] = grad_skip_;
    }
    const int first_channel = w_.channel - w_.lane;
    sums_.store_grad_weight(to.dt + static_cast<std::int64_t>(w_.k) * p.rank * p.channels + first_channel, p.channels,
                            first_channel);
  }

  const SweepBackward& b_;
  SweepWarp<Kind> w_;
  typename SweepBackwardShared<Kind>::Warp& mine_;
  SweepShares<Kind> (&shares_)[2][Kind::kWarps];
  SweepSums<Kind> sums_;
  const float A_ln2_ = w_.A * kLn2;
  float before_ = 0;  ///< the state before the tile
  float carry_ = 0, grad_A_ = 0, grad_bias_ = 0, grad_skip_ = 0;
};

// Grid (image blocks, channel blocks), block (2 · (warps + 1) · 32).
template <class Kind>
__global__ void __launch_bounds__(Kind::kThreads, Kind::kBackwardBlocks)
    sweep_backward_kernel(const __grid_constant__ SweepBackward b) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<SweepBackwardShared<Kind>*>(memory);
  prepare(shared.directions, b.sweep.warps, shared.bytes(b.sweep.warps));
  if (SweepDirection::brings_tokens(b.sweep)) {
    const SweepTokenWarp<Kind> warp(b.sweep, true, shared.directions);
    const SweepShareSums<Kind> sums(b, warp, shared.shares[warp.reversed]);
    warp.run([&](int result, unsigned use) {
      warp.each_result_word(result, [&](int row, int word, std::int64_t at) {
        sums.store(row, word, static_cast<int>(use % 2), at);
      });
    });
  } else {
    SweepBackwardScan<Kind>(b, shared).run();
  }
}

/// Launches one sweep for each Sweep of `orders`; each adds to the results of those before. grad_projection
/// (batch, length, K, R + 2) as SweepBackward's; the weights' gradients are accumulated.
template <bool kGeneral = false, class SweepOf>
void sweep_backward(const Stream& stream, const ScanShape& shape, int orders, const bfloat16* grad_z, bfloat16* grad_s,
                    bfloat16* grad_projection, const ScanWeightGradients<bfloat16>& grad_weights, SweepOf sweep_of) {
  const std::int64_t width = PackedScanGradients::width(shape);
  Sweep sweep = sweep_of(0);
  with_sweep_kind<true, kGeneral>(sweep, [&]<class Kind>() {
    const SweepGrid grid(sweep.batch, shape.channels, Kind::kWarps, Kind::kBackwardBlocks);
    const std::int64_t projections = sweep.batch * sweep.length * shape.directions * shape.projection();
    const bool whole = grid.channel_blocks == 1;
    const Scratch<float> partial(stream, whole ? 0 : grid.channel_blocks * projections);
    const Scratch<float> weight_sums(stream, grid.image_blocks * width);
    for (int order = 0; order < orders; ++order) {
      sweep = sweep_of(order);
      sweep.warps = grid.warps;
      launch_sweep(
          "sweep_backward", stream, sweep_backward_kernel<Kind>, grid, SweepBackwardShared<Kind>::bytes(grid.warps),
          SweepBackward{sweep, grad_z, grad_s, whole ? grad_projection : nullptr, partial.data(), weight_sums.data()});
    }
    if (!whole) sum_channel_blocks(stream, grid.channel_blocks, projections, partial.data(), grad_projection);
    const TokenBlockSum sums(stream, grid.image_blocks, width, weight_sums.data());
    const PackedWeightsScratch weights(stream, shape, sweep.weights);
    add_weight_gradients(stream, shape, weights.packed(), sums.data(), grad_weights);
  });
}

}  // namespace qm::cuda
