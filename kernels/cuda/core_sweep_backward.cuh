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

#include "kernels/cuda/core_sweep.cuh"

namespace qm::cuda {

struct SweepBackward {
  Sweep sweep;
  const bfloat16* grad_z;     ///< (batch, out_height, out_width, D)
  bfloat16* grad_s;           ///< (batch, length, D), by token or by position
  bfloat16* grad_projection;  ///< (batch, length, K, R + 2), likewise; null where there are several channel blocks, and
  float* partial_projection;  ///< (channel blocks, batch, length, K, R + 2) instead
  float* weight_sums;         ///< (batch, PackedScanGradients::width)
};

template <class Kind>
struct SweepBackwardShared {
  SweepTokens<Kind> tokens[2][2];                                 ///< direction, tile even or odd
  float sums[2][2][Kind::kWarps][kTile][8 * Kind::kColumnTiles];  ///< direction, tile even or odd, of each warp

  struct Warp {
    SweepTile u[2], grad_y[2], partial[2];  ///< tile even or odd
    union {
      alignas(16) SweepScratch scratch;
      alignas(16) SweepProduct product[3];  ///< ∂x, and the terms of ∂B and ∂C
    };
  };
  static std::size_t bytes(int threads) { return sizeof(SweepBackwardShared) + threads / kWarp * sizeof(Warp); }
  __device__ __forceinline__ Warp& warp(int index) { return reinterpret_cast<Warp*>(this + 1)[index]; }
};

/// Sums of a tile's products over a warp's channels, and of ∂x δ over tokens.
template <class Kind>
class SweepSums {
 public:
  __device__ __forceinline__ SweepSums(const Sweep& p, int k, int first_channel) : rank_(p.rank) {
    const int g = lane_index() / 4, q = lane_index() % 4;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
#pragma unroll
      for (int n = 0; n < Kind::kColumnTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int channel = first_channel + 16 * s + 2 * q + 8 * i, r = 8 * n + g;
          weight_[s][n].b[i] = pack_bf16(dt_weight_of(p, k, channel, r), dt_weight_of(p, k, channel + 1, r));
        }
      }
    }
  }

  /// sums (16 tokens, R + 2 and spare columns) = (∂δ | ∂B / ln 2 | ∂C), this warp's share.
  __device__ __forceinline__ void over_channels(const SweepProduct (&product)[3],
                                                float (&sums)[kTile][8 * Kind::kColumnTiles]) const {
    const int lane = lane_index(), g = lane / 4, q = lane % 4;
    float sum[Kind::kColumnTiles][4] = {};
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      FragmentA factor[3];
      const int channel = 16 * s + lane / 16 * 8 + lane % 8, token = lane / 8 % 2 * 8;
#pragma unroll
      for (int i = 0; i < 3; ++i) load_transposed(factor[i].a, &product[i][channel][token]);
#pragma unroll
      for (int n = 0; n < Kind::kColumnTiles; ++n) {
        multiply_add(sum[n], factor[0], weight_[s][n]);
        if (rank_ / 8 == n) multiply_add(sum[n], factor[1], ones_in(rank_ % 8));
        if ((rank_ + 1) / 8 == n) multiply_add(sum[n], factor[2], ones_in((rank_ + 1) % 8));
      }
    }
#pragma unroll
    for (int n = 0; n < Kind::kColumnTiles; ++n) {
      *reinterpret_cast<float2*>(&sums[g][8 * n + 2 * q]) = make_float2(sum[n][0], sum[n][1]);
      *reinterpret_cast<float2*>(&sums[g + 8][8 * n + 2 * q]) = make_float2(sum[n][2], sum[n][3]);
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
      load_transposed(delta.b, &tokens.rank[lane % 16][8 * n]);
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
          const int channel = 16 * m + g + i / 2 * 8, r = 8 * n + 2 * q + i % 2;
          if (r < rank_ && first_channel + channel < channels) {
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

  int rank_;
  FragmentB weight_[2][Kind::kColumnTiles];
  float grad_weight_[2][Kind::kRankTiles][4] = {};
};

template <class Kind, bool kReversed>
class SweepBackwardWalk {
 public:
  __device__ __forceinline__ SweepBackwardWalk(const SweepBackward& backward, SweepBackwardShared<Kind>& shared)
      : b_(backward),
        w_(backward.sweep),
        mine_(shared.warp(warp_index())),
        tokens_(shared.tokens[kReversed]),
        group_sums_(shared.sums[kReversed]),
        delta_(backward.sweep, w_.k, w_.first_channel),
        sums_(backward.sweep, w_.k, w_.first_channel) {
    const std::int64_t at = static_cast<std::int64_t>(w_.k) * w_.p.channels + w_.channel;
    A_ = w_.active ? -expf(w_.p.weights.A_logs[at]) : 0.0f;
    bias_ = w_.active ? kLog2E * w_.p.weights.dt_bias[at] : 0.0f;
    skip_ = w_.active ? w_.p.weights.skip[at] : 0.0f;
  }

  /// Tiles are visited from where this direction ends.
  __device__ __forceinline__ void run() {
    const int tiles = w_.p.tiles, met = (tiles + (kReversed ? 0 : 1)) / 2;
    visit(0, met, w_.p.adds);
    __syncthreads();
    visit(met, tiles, true);
    store_weight_sums();
  }

 private:
  __device__ __forceinline__ int tile_of(int step) const { return kReversed ? step : w_.p.tiles - 1 - step; }

  __device__ __forceinline__ void start_copies(int step, bool reads, const int (&token)[2]) {
    w_.copy_rows(mine_.u[step % 2], w_.p.x, w_.p.length, token);
    const int output[2] = {w_.p.output_of(token[0]), w_.p.output_of(token[1])};
    w_.copy_rows(mine_.grad_y[step % 2], b_.grad_z, w_.p.out_length(), output);
    if (reads) {
      int row[2];
      w_.result_rows(tile_of(step), token, row);
      w_.copy_rows(mine_.partial[step % 2], b_.grad_s, w_.p.length, row);
    }
    commit_copies();
  }

  __device__ __forceinline__ void visit(int first, int last, bool reads) {
    if (first == last) return;
    int token[2], next[2];
    w_.load_tokens(tile_of(first), token);
    projections_.load(w_, tile_of(first));
    start_copies(first, reads, token);
    float before = w_.active ? *w_.states_of(tile_of(first)) : 0.0f, before_next = 0;
    projections_.store(w_, tokens_[first % 2]);
    w_.group_barrier();
    for (int step = first; step < last; ++step) {
      const int tile = tile_of(step), parity = step % 2;
      const bool more = step + 1 < last;
      if (more) {
        w_.load_tokens(tile_of(step + 1), next);
        projections_.load(w_, tile_of(step + 1));
        start_copies(step + 1, reads, next);
        if (w_.active) before_next = *w_.states_of(tile_of(step + 1));
        wait_copies<1>();
      } else {
        wait_copies<0>();
      }
      __syncwarp();
      w_.add_second(mine_.u[parity], w_.p.x, w_.p.length, tile, [](int t) { return t; });
      w_.add_second(mine_.grad_y[parity], b_.grad_z, w_.p.out_length(), tile, [&](int t) { return w_.p.output_of(t); });
      scan(tile, parity, reads, before);
      __syncwarp();
      int row[2];
      w_.result_rows(tile, token, row);
      w_.store_rows(mine_.grad_y[parity], b_.grad_s, w_.p.length, row);
      sums_.over_channels(mine_.product, group_sums_[parity][w_.warp]);
      sums_.over_tokens(mine_.product[0], tokens_[parity]);
      if (more) projections_.store(w_, tokens_[(step + 1) % 2]);
      w_.group_barrier();
      store_projection_gradients(tile, parity);
      token[0] = next[0];
      token[1] = next[1];
      before = before_next;
    }
  }

  /// ∂u of the tile takes ∂y's place; fills the products.
  __device__ __forceinline__ void scan(int tile, int parity, bool reads, float before) {
    const SweepTokens<Kind>& tokens = tokens_[parity];
    const SweepTile& u_tile = mine_.u[parity];
    SweepTile& grad_tile = mine_.grad_y[parity];
    delta_.fill(tokens, mine_.scratch);
    const int valid = w_.p.length - tile * kTile;
    if (valid < kTile) hide_tokens_from(valid, mine_.scratch);

    float delta[kTile], a[kTile], h[kTile], u[kTile];
    float state = before;
#pragma unroll
    for (int step = 0; step < kTile; ++step) {
      const int t = token_of_step<kReversed>(step);
      u[t] = to_real(u_tile.row[t][w_.lane]);
      delta[t] = softplus_base2(mine_.scratch[t][w_.lane] + bias_);
      a[t] = exp2_fast(delta[t] * A_);
      state = a[t] * state + delta[t] * (tokens.B[t] * u[t]);
      h[t] = state;
    }
    __syncwarp();  // the products take the scratch's place

    float grad_A = 0, grad_bias = 0, grad_skip = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t grad_x_pairs[4], B_pairs[4], C_pairs[4];
      const int first = kReversed == (half == 0) ? 0 : kTile / 2;  // against the sense
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        float grad_x[2], of_B[2], of_C[2];
        const int pair_at = kReversed ? pair : 3 - pair;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int odd = kReversed ? i : 1 - i, t = first + 2 * pair_at + odd;
          const float grad_y = to_real(grad_tile.row[t][w_.lane]);
          const float g = tokens.C[t] * grad_y + carry_;
          const float Bu = tokens.B[t] * u[t], from_before = h[t] - delta[t] * Bu, gd = g * delta[t];
          carry_ = g * a[t];
          of_B[odd] = gd * u[t];
          of_C[odd] = grad_y * h[t];
          float grad_u = gd * tokens.B[t] + skip_ * grad_y;
          // In base 2: B carries ln 2, so does A here, and the sigmoid takes it out again.
          grad_x[odd] = g * (Bu + A_ * kLn2 * from_before) * (kLog2E - kLog2E * exp2_fast(-delta[t]));
          grad_A += gd * from_before;
          grad_bias += grad_x[odd];
          grad_skip += grad_y * u[t];
          if (reads) grad_u += to_real(mine_.partial[parity].row[t][w_.lane]);
          grad_tile.row[t][w_.lane] = from_real<bfloat16>(grad_u);
        }
        grad_x_pairs[pair_at] = pack_bf16(grad_x[0], grad_x[1]);
        B_pairs[pair_at] = pack_bf16(of_B[0], of_B[1]);
        C_pairs[pair_at] = pack_bf16(of_C[0], of_C[1]);
      }
      const auto put = [&](SweepProduct& product, const std::uint32_t(&pairs)[4]) {
        *reinterpret_cast<uint4*>(&product[w_.lane][first]) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
      };
      put(mine_.product[0], grad_x_pairs);
      put(mine_.product[1], B_pairs);
      put(mine_.product[2], C_pairs);
    }
    grad_A_ += grad_A;
    grad_bias_ += grad_bias;
    grad_skip_ += grad_skip;
  }

  /// The direction's warps add up their shares. The next tile's sums go elsewhere, so one barrier a tile is enough.
  __device__ __forceinline__ void store_projection_gradients(int tile, int parity) const {
    const Sweep& p = w_.p;
    const int width = p.rank + 2;
    for (int element = w_.group_thread(); element < kTile * width; element += w_.group_threads()) {
      const int t = element / width, column = element % width, position = tile * kTile + t;
      if (position >= p.length) continue;
      float sum = 0;
      for (int warp = 0; warp < p.warps; ++warp) sum += group_sums_[parity][warp][t][column];
      if (column == p.rank) sum *= kLn2;
      const std::int64_t row = w_.image * p.length + (p.by_token ? w_.first()[position] : position);
      const std::int64_t at = (row * p.directions + w_.k) * width + column;
      if (b_.grad_projection) {
        b_.grad_projection[at] = from_real<bfloat16>(sum);
      } else {
        b_.partial_projection[blockIdx.y * p.batch * p.length * p.directions * width + at] = sum;
      }
    }
  }

  __device__ __forceinline__ void store_weight_sums() const {
    const Sweep& p = w_.p;
    const ScanShape shape{p.directions, p.channels, 1, p.rank};
    const PackedScanGradients to(shape, b_.weight_sums + w_.image * PackedScanGradients::width(shape));
    const std::int64_t at = static_cast<std::int64_t>(w_.k) * p.channels + w_.channel;
    if (w_.active) {
      to.A[at] = kLn2 * grad_A_;
      to.dt_bias[at] = grad_bias_;
      to.skip[at] = grad_skip_;
    }
    sums_.store_grad_weight(to.dt + static_cast<std::int64_t>(w_.k) * p.rank * p.channels + w_.first_channel,
                            p.channels, w_.first_channel);
  }

  const SweepBackward& b_;
  SweepWarp<kReversed> w_;
  typename SweepBackwardShared<Kind>::Warp& mine_;
  SweepTokens<Kind> (&tokens_)[2];
  float (&group_sums_)[2][Kind::kWarps][kTile][8 * Kind::kColumnTiles];
  SweepDelta<Kind> delta_;
  SweepSums<Kind> sums_;
  SweepProjections<Kind> projections_;
  float A_, bias_, skip_;
  float carry_ = 0, grad_A_ = 0, grad_bias_ = 0, grad_skip_ = 0;
};

// Grid (batch, channel blocks), block (2 · warps · 32): the first half of the warps takes the direction that goes
// forwards.
template <class Kind>
__global__ void __launch_bounds__(Kind::kThreads, Kind::kBackwardBlocks)
    sweep_backward_kernel(const __grid_constant__ SweepBackward b) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<SweepBackwardShared<Kind>*>(memory);
  clear_tokens(shared.tokens);
  if (warp_index() < b.sweep.warps) {
    SweepBackwardWalk<Kind, false>(b, shared).run();
  } else {
    SweepBackwardWalk<Kind, true>(b, shared).run();
  }
}

/// Launches one sweep for each Sweep of `orders`; each adds to the results of those before. grad_projection
/// (batch, length, K, R + 2) as SweepBackward's; the weights' gradients are accumulated.
template <class SweepOf>
void sweep_backward(const Stream& stream, const ScanShape& shape, int orders, const bfloat16* grad_z, bfloat16* grad_s,
                    bfloat16* grad_projection, const ScanWeightGradients<bfloat16>& grad_weights, SweepOf sweep_of) {
  const std::int64_t width = PackedScanGradients::width(shape);
  with_sweep_kind<true>(shape.rank, [&]<class Kind>() {
    const SweepGrid grid(shape.channels, Kind::kWarps);
    Sweep sweep = sweep_of(0);
    const std::int64_t projections = sweep.batch * sweep.length * shape.directions * shape.projection();
    const bool whole = grid.channel_blocks == 1;
    const Scratch<float> partial(stream, whole ? 0 : grid.channel_blocks * projections);
    const Scratch<float> weight_sums(stream, sweep.batch * width);
    for (int order = 0; order < orders; ++order) {
      sweep = sweep_of(order);
      sweep.warps = grid.warps;
      launch_sweep(
          "sweep_backward", stream, sweep_backward_kernel<Kind>, grid, sweep.batch,
          SweepBackwardShared<Kind>::bytes(grid.threads()),
          SweepBackward{sweep, grad_z, grad_s, whole ? grad_projection : nullptr, partial.data(), weight_sums.data()});
    }
    if (!whole) sum_channel_blocks(stream, grid.channel_blocks, projections, partial.data(), grad_projection);
    const TokenBlockSum sums(stream, sweep.batch, width, weight_sums.data());
    const PackedWeightsScratch weights(stream, shape, sweep.weights);
    add_weight_gradients(stream, shape, weights.packed(), sums.data(), grad_weights);
  });
}

}  // namespace qm::cuda
