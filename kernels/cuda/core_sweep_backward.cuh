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
//
// A quadtree's sweeps also compare: of a position's fine and coarse token t they take, with this direction's y_l and ∂u_l,
//
//   w_l(t) = Σ_d u_t ∂u_l + ∂y_t y_l
//
// and add it to the fine one's quadrant, take it from the coarse one's (kernels/quad_scan.h, grad_one_hot). One of the
// two is mostly there, and in u_l and ∂y_l; the other's rows are brought besides. A position without a token has
// B = C = 0, so that y_l and ∂u_l are 0 there.
#pragma once

#include "kernels/cuda/core_sweep_scan.cuh"
#include "kernels/cuda/reduce.cuh"

namespace qm::cuda {

/// A map of projections' gradients (batch, length, K, R + 2): null where there are several channel blocks, and
/// (channel blocks, batch, length, K, R + 2) instead.
struct SweepProjections {
  bfloat16* whole;
  float* partial;
};

/// Terms of grad_one_hot (batch, groups, 4); a sweep's are the first groups of an image, one for each channel block and
/// direction.
struct SweepComparisons {
  double* sums;
  std::int64_t groups;
};

struct SweepBackward {
  Sweep sweep;
  const bfloat16* grad_z;  ///< (batch, out_height, out_width, D)
  bfloat16* grad_x;        ///< (batch, length, D)
  SweepProjections grad_projection, spare_grad_projection;
  float* weight_sums;  ///< (image blocks, PackedScanGradients::width)
  SweepComparisons comparisons;
};

/// A warp's share of the sums over channels of a tile: ∂(δ | B / ln 2 | C), in the columns of SweepTokens' rows. Absent
/// warps' stay 0.
template <class Kind>
struct SweepShares {
  static constexpr int kCompared = 8 * Kind::kColumns;  ///< the first of the columns of SweepCompareFactors

  alignas(16) float sum[kTile][kCompared + 4];
};

/// Of a channel.
struct SweepConstants {
  float A, A_ln2, bias, skip;  ///< A, ln 2 · A, log₂ e · dt_bias, D
};

/// Factors of the sums, of half a tile: eight tokens a row, by channel.
struct SweepFactors {
  enum { kGradX, kOfB, kOfC, kCount };  ///< ∂x, and the terms of ∂B / ln 2 and ∂C
  uint4 row[kCount][kWarp];
};

/// The other tokens of a tile.
template <class Kind>
union SweepOthers {
  /// In a plain sweep both tokens belong to one quadrant: only the difference is kept, of what is there and the other.
  static constexpr int kFactors = Kind::kPlain ? 1 : 2;  ///< of what is there; of the other

  struct {
    SweepTile u, grad_y;
  } rows;
  uint4 factors[kFactors][2][kWarp];  ///< terms of w, as in SweepFactors, of either half when its rows have been read
};
struct SweepNoOthers {};

template <class Kind>
struct SweepBackwardShared {
  SweepShared<Kind> directions[2];
  SweepShares<Kind> shares[2][2][Kind::kWarps];  ///< direction, buffer

  static constexpr int kAhead = 1, kBuffers = 2;

  struct Warp {
    SweepTile u[kBuffers], grad_y[kBuffers];
    SweepTile partial[kBuffers];  ///< what ∂u is added to
    [[no_unique_address]] std::conditional_t<Kind::kCompares, SweepOthers<Kind>, SweepNoOthers> others;
    float before[kBuffers][kWarp];  ///< the state before the tile
    SweepResults grad_u;
    uint4 constants[kWarp];  ///< SweepConstants, since registers are scarce
    SweepWeights<Kind> weights;
    union {
      SweepPreActivations x;
      SweepFactors factors[2];  ///< of either half, when these have been read
    };
  };
  QM_HOST_DEVICE static constexpr std::size_t bytes(int warps) {
    return sizeof(SweepBackwardShared) + 2 * warps * sizeof(Warp);
  }
  __device__ __forceinline__ Warp& warp(int index) { return reinterpret_cast<Warp*>(this + 1)[index]; }
};

/// What the token warp of a direction does with the shares of a tile when all have been written: it stores their sums,
/// and adds up those of an image that compare.
template <class Kind>
class SweepShareSums {
 public:
  using Shares =
      SweepShares<Kind>[2][Kind::kWarps];  ///< of a direction; tile after tile uses one buffer, then the other

  __device__ __forceinline__ SweepShareSums(const SweepBackward& backward, const SweepDirection& direction,
                                            const Shares& shares)
      : b_(backward), p_(backward.sweep), skipped_(direction.skipped()), shares_(shares), place_(direction.start()) {}

  /// Of the next tile on the walk.
  __device__ __forceinline__ void store(const SweepTokenWarp<Kind>& warp, const SweepRows<Kind>& rows, int buffer) {
    for (int i = 0; i < rows.tokens(); ++i) store(warp, b_.grad_projection, rows.token[i], buffer);
    if (rows.has_spares()) store(warp, b_.spare_grad_projection, rows.spare, buffer);
    if constexpr (Kind::kCompares) {
      if (lane_index() < kTile) compare(rows.role[lane_index()], shares_[buffer], lane_index());
      if (place_.step + 1 == p_.tiles) store_compared(warp.reversed);
      place_ = warp.after(place_);
    }
  }

 private:
  /// Adds what a row says of the quadrants.
  __device__ __forceinline__ void compare(int role, const SweepShares<Kind> (&shares)[Kind::kWarps], int row) {
    float2 w{};
#pragma unroll
    for (int i = 0; i < Kind::kWarps; ++i) {
      const float2 share = *reinterpret_cast<const float2*>(&shares[i].sum[row][SweepShares<Kind>::kCompared]);
      w.x += share.x;
      w.y += share.y;
    }
    const auto holds = SweepCompared::holds(role);
    if constexpr (Kind::kPlain) {
      add(SweepCompared::fine_quadrant(role), holds == SweepCompared::kFine ? w.x : -w.x);
    } else {
      const float there = holds == SweepCompared::kBoth ? w.x - w.y : w.x;
      add(SweepCompared::fine_quadrant(role), holds == SweepCompared::kFine ? there : w.y);
      add(SweepCompared::coarse_quadrant(role), holds == SweepCompared::kFine ? -w.y : -there);
    }
  }
  __device__ __forceinline__ void add(int quadrant, float w) {
#pragma unroll
    for (int q = 0; q < 4; ++q) compared_[q] += q == quadrant ? w : 0.0f;
  }
  /// Ends an image.
  __device__ __forceinline__ void store_compared(bool reversed) {
    double* to =
        b_.comparisons.sums + (place_.image * b_.comparisons.groups + blockIdx.y * 2 + (reversed ? 1 : 0)) * 4;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const double sum = warp_sum(compared_[q]);
      if (lane_index() == 0) to[q] = sum;
      compared_[q] = 0;
    }
  }

  __device__ __forceinline__ void store(const SweepTokenWarp<Kind>& warp, const SweepProjections& to, const int* rows,
                                        int buffer) const {
    warp.each_word_of(rows, [&](int row, int word, std::int64_t at) {
      float2 sum{};
#pragma unroll
      for (int i = 0; i < Kind::kWarps; ++i) {
        const float2 share = *reinterpret_cast<const float2*>(&shares_[buffer][i].sum[row][2 * word]);
        sum.x += share.x;
        sum.y += share.y;
      }
      const int column = 2 * word - skipped_;  // of (δ | B | C)
      store_word(to, column, column == p_.rank ? kLn2 * sum.x : sum.x, column + 1 == p_.rank ? kLn2 * sum.y : sum.y,
                 at);
    });
  }
  /// Half of a direction's first or last word may be another's.
  __device__ __forceinline__ void store_word(const SweepProjections& to, int column, float low, float high,
                                             std::int64_t at) const {
    const bool first = is_column(column), second = is_column(column + 1);
    if (!to.whole) {
      float* partial =
          to.partial + blockIdx.y * (std::int64_t{p_.batch} * p_.length * p_.directions * (p_.rank + 2)) + at;
      if (first) partial[0] = low;
      if (second) partial[1] = high;
    } else if (first && second) {
      *reinterpret_cast<std::uint32_t*>(to.whole + at) = pack_bf16(low, high);
    } else if (first) {
      to.whole[at] = from_real<bfloat16>(low);
    } else if (second) {
      to.whole[at + 1] = from_real<bfloat16>(high);
    }
  }
  __device__ __forceinline__ bool is_column(int column) const {
    return static_cast<unsigned>(column) < static_cast<unsigned>(p_.rank + 2);
  }

  const SweepBackward& b_;
  const Sweep& p_;
  int skipped_;
  const Shares& shares_;
  SweepPlace place_;
  double compared_[4] = {};  ///< this lane's terms of an image's quadrants; of either sign, they nearly cancel
};

/// Sums of a tile's products over a warp's channels, and of ∂x δ over tokens.
template <class Kind>
class SweepSums {
 public:
  __device__ __forceinline__ explicit SweepSums(const SweepDirection& direction)
      : rank_(direction.p.rank), skipped_(direction.skipped()) {}

  template <class Others>
  __device__ __forceinline__ void over_channels(const SweepFactors (&factors)[2], const Others& others,
                                                const SweepWeights<Kind>& weights, SweepShares<Kind>& share) const {
    const int lane = lane_index(), g = lane / 4, q = lane % 4;
    float sum[Kind::kRankTiles][4] = {}, sum_of_ones[4] = {};
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      FragmentA factor[SweepFactors::kCount];
      const int channel = 16 * s + lane / 16 * 8 + lane % 8, half = lane / 8 % 2;
#pragma unroll
      for (int i = 0; i < SweepFactors::kCount; ++i) load_transposed(factor[i].a, &factors[half].row[i][channel]);
#pragma unroll
      for (int n = 0; n < Kind::kRankTiles; n += 2) {
        FragmentB weight[2];
        load_transposed(weight, &weights.row[16 * s + lane % 16][8 * n + lane / 16 * 8]);
        multiply_add(sum[n], factor[SweepFactors::kGradX], weight[0]);
        if (n + 1 < Kind::kRankTiles) multiply_add(sum[n + 1], factor[SweepFactors::kGradX], weight[1]);
      }
      multiply_add(sum_of_ones, factor[SweepFactors::kOfB], ones_in(0));
      multiply_add(sum_of_ones, factor[SweepFactors::kOfC], ones_in(1));
      if constexpr (Kind::kCompares) {
#pragma unroll
        for (int i = 0; i < Others::kFactors; ++i) {
          FragmentA compared;
          load_transposed(compared.a, &others.factors[i][half][channel]);
          multiply_add(sum_of_ones, compared, ones_in(2 + i));
        }
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int n = 0; n < Kind::kRankTiles; ++n) {
        *reinterpret_cast<float2*>(&share.sum[g + 8 * half][8 * n + 2 * q]) =
            make_float2(sum[n][2 * half], sum[n][2 * half + 1]);
      }
    }
    __syncwarp();  // ∂B and ∂C take the place of zeros
    if (q >= (Kind::kCompares ? 2 : 1)) return;
    const int column = q == 0 ? skipped_ + rank_ : SweepShares<Kind>::kCompared;
#pragma unroll
    for (int i = 0; i < 4; ++i) share.sum[g + i / 2 * 8][column + i % 2] = sum_of_ones[i];
  }

  /// ∂dt_weight (32 channels, R) += ∂xᵀ δ.
  __device__ __forceinline__ void over_tokens(const SweepFactors (&factors)[2], const SweepTokens<Kind>& tokens) {
    const unsigned lane = lane_again();
    FragmentA grad[2];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      load_matrices(grad[m].a, &factors[lane / 16].row[SweepFactors::kGradX][16 * m + lane % 16]);
    }
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

/// Terms of w of half a tile, for a lane's channel.
template <class Kind>
class SweepCompareTerms {
 public:
  /// Those of a row of the half; the row before comes after it.
  __device__ __forceinline__ void take(const SweepOthers<Kind>& others, int half, int row, float u, float grad_u,
                                       float grad_y, float y) {
    const int at = half * kTile / 2 + row, lane = lane_index();
    const float other_u = to_real(others.rows.u.row[at][lane]), other_grad_y = to_real(others.rows.grad_y.row[at][lane]);
    float terms[2];
    if constexpr (Kind::kPlain) {
      terms[0] = (u - other_u) * grad_u + (grad_y - other_grad_y) * y;
    } else {
      terms[0] = u * grad_u + grad_y * y;
      terms[1] = other_u * grad_u + other_grad_y * y;
    }
#pragma unroll
    for (int i = 0; i < kFactors; ++i) {
      if (row % 2 == 0) pairs_[i][row / 2] = pack_bf16(terms[i], odd_[i]);
      odd_[i] = terms[i];
    }
  }
  __device__ __forceinline__ void store(SweepOthers<Kind>& to, int half) const {
#pragma unroll
    for (int i = 0; i < kFactors; ++i) {
      const auto& four = pairs_[i];
      to.factors[i][half][lane_index()] = make_uint4(four[0], four[1], four[2], four[3]);
    }
  }

 private:
  static constexpr int kFactors = SweepOthers<Kind>::kFactors;

  std::uint32_t pairs_[kFactors][kPairs / 2];
  float odd_[kFactors];  ///< of the odd row of a pair
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
    const SweepConstants constants{w_.A, kLn2 * w_.A, w_.bias, w_.skip};
    mine_.constants[w_.lane] = reinterpret_cast<const uint4&>(constants);
  }

  /// All images of the block, one after another; their weights' gradients are summed on the way.
  __device__ __forceinline__ void run() {
    w_.template walk<SweepBackwardShared<Kind>::kBuffers, SweepBackwardShared<Kind>::kAhead>(*this);
    store_weight_sums();
  }

  // ---- called by walk() ----

  static constexpr bool kLate = Kind::kCompares;
  __device__ __forceinline__ void bring(const SweepPlace& place, const SweepRows<Kind>& rows, int buffer) {
    w_.copy_rows(w_.p.x, rows.token[0], mine_.u[buffer]);
    w_.copy_rows(b_.grad_z, rows.output(0), mine_.grad_y[buffer]);
    copy_async_word(shared_address(&mine_.before[buffer][w_.lane]), w_.state_at(place), w_.is_active() ? 0 : -1);
  }
  __device__ __forceinline__ void bring_partial(const SweepRows<Kind>& rows, int buffer) const {
    w_.copy_rows(b_.grad_x, rows.token[0], mine_.partial[buffer]);
  }
  /// The other tokens, for which there is one place.
  __device__ __forceinline__ void bring_late(const SweepRows<Kind>& rows) const {
    w_.copy_rows(w_.p.x, rows.other, mine_.others.rows.u);
    w_.copy_rows(b_.grad_z, rows.other_output, mine_.others.rows.grad_y);
  }
  __device__ __forceinline__ void take(const SweepRows<Kind>& rows, int buffer) const {
    if (rows.tokens() == 1) return;
    if constexpr (!Kind::kPlain) {
      wait_copies<0>();  // the second tokens are among the others
      w_.add_rows(mine_.u[buffer], mine_.others.rows.u, rows.token[1]);
      w_.add_rows(mine_.grad_y[buffer], mine_.others.rows.grad_y, rows.token[1]);
    }
  }

  /// Fills the factors, then takes their sums.
  __device__ __forceinline__ void scan(const SweepPlace& place, const SweepTokens<Kind>& tokens, int buffer) {
    fill(tokens, SweepWeightFragments<Kind>(mine_.weights), mine_.x);
    const int tile = w_.tile_of(place);
    if (w_.has_end(tile)) hide_rows_beyond(w_, tile, mine_.x);
    if (place.step == 0) carry_ = 0;

    const SweepConstants c = constants();
    HalfTile delta[2], h[2];
    float state = mine_.before[buffer][w_.lane];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      HalfTile x, u, B;
      load_half(mine_.x, half, x);
      load_half(mine_.u[buffer], half, u);
      load_half(tokens.B, half, B);
#pragma unroll
      for (int i = 0; i < kTile / 2; ++i) delta[half][i] = softplus_base2(kLog2E * x[i] + c.bias);
#pragma unroll
      for (int i = 0; i < kTile / 2; ++i) {
        state = exp2_fast(delta[half][i] * c.A) * state + delta[half][i] * (B[i] * u[i]);
        h[half][i] = state;
      }
    }
    if constexpr (Kind::kCompares) wait_copies<1>();  // all but the next tile's, so the others have arrived
    __syncwarp();  // the factors take the pre-activations' place
    const bool adds = w_.adds(place);
#pragma unroll
    for (int half = 1; half >= 0; --half) go_back(tokens, half, buffer, adds, delta[half], h[half]);
    __syncwarp();
    sums_.over_channels(mine_.factors, mine_.others, mine_.weights, shares_[buffer][w_.warp()]);
    sums_.over_tokens(mine_.factors, tokens);
  }

  __device__ __forceinline__ void store(const SweepPlace& place, const SweepRows<Kind>& rows) const {
    const auto chunks = w_.chunks_of(mine_.grad_u);
    w_.store_rows(b_.grad_x, rows.token[0], chunks);
    const int tokens = place.step < w_.meeting() ? 1 : rows.tokens();
#pragma unroll 1
    for (int i = 1; i < tokens; ++i) w_.store_rows(b_.grad_x, rows.token[i], chunks);
  }

 private:
  /// Half a tile against the direction.
  __device__ __forceinline__ void go_back(const SweepTokens<Kind>& tokens, int half, int buffer, bool adds,
                                          const HalfTile& delta, const HalfTile& h) {
    const SweepConstants c = constants();
    HalfTile u, grad_y, grad_u = {}, B, C;  // u and a again: registers are scarcer
    load_half(mine_.u[buffer], half, u);
    load_half(mine_.grad_y[buffer], half, grad_y);
    if (adds) load_half(mine_.partial[buffer], half, grad_u);
    load_half(tokens.B, half, B);
    load_half(tokens.C, half, C);
    std::uint32_t factors[SweepFactors::kCount][kPairs / 2];
    SweepCompareTerms<Kind> compared;
#pragma unroll
    for (int pair = kPairs / 2 - 1; pair >= 0; --pair) {
      float grad_x[2], of_B[2], of_C[2];
#pragma unroll
      for (int odd = 1; odd >= 0; --odd) {
        const int i = 2 * pair + odd;
        const float d = delta[i], g = C[i] * grad_y[i] + carry_, gd = g * d;
        const float Bu = B[i] * u[i], from_before = h[i] - d * Bu;
        carry_ = g * exp2_again(d * c.A);
        of_B[odd] = gd * u[i];
        of_C[odd] = grad_y[i] * h[i];
        const float grad = gd * B[i] + c.skip * grad_y[i];
        grad_u[i] += grad;
        if constexpr (Kind::kCompares) {
          compared.take(mine_.others, half, i, u[i], grad, grad_y[i], C[i] * h[i] + c.skip * u[i]);
        }
        // In base 2: B carries ln 2, so does A here, and the sigmoid takes it out again.
        grad_x[odd] = g * (Bu + c.A_ln2 * from_before) * (kLog2E - kLog2E * exp2_fast(-d));
        grad_A_ += gd * from_before;
        grad_bias_ += grad_x[odd];
        grad_skip_ += grad_y[i] * u[i];
      }
      factors[SweepFactors::kGradX][pair] = pack_bf16(grad_x[0], grad_x[1]);
      factors[SweepFactors::kOfB][pair] = pack_bf16(of_B[0], of_B[1]);
      factors[SweepFactors::kOfC][pair] = pack_bf16(of_C[0], of_C[1]);
    }
    store_half(grad_u, half, mine_.grad_u);
#pragma unroll
    for (int i = 0; i < SweepFactors::kCount; ++i) {
      const auto& four = factors[i];
      mine_.factors[half].row[i][w_.lane] = make_uint4(four[0], four[1], four[2], four[3]);
    }
    if constexpr (Kind::kCompares) {
      __syncwarp();  // they take the place of the half's rows
      compared.store(mine_.others, half);
    }
  }

  /// Loaded anew each time.
  __device__ __forceinline__ SweepConstants constants() const {
    const uint4 four = load_shared(shared_address(&mine_.constants[w_.lane]));
    return reinterpret_cast<const SweepConstants&>(four);
  }

  __device__ __forceinline__ void store_weight_sums() const {
    const Sweep& p = w_.p;
    const ScanShape shape{p.directions, p.channels, 1, p.rank};
    const PackedScanGradients to(shape, b_.weight_sums + blockIdx.x * PackedScanGradients::width(shape));
    const std::int64_t at = static_cast<std::int64_t>(w_.k()) * p.channels + w_.channel;
    if (w_.is_active()) {
      to.A[at] = kLn2 * grad_A_;
      to.dt_bias[at] = grad_bias_;
      to.skip[at] = grad_skip_;
    }
    const int first_channel = w_.first_channel();
    sums_.store_grad_weight(to.dt + static_cast<std::int64_t>(w_.k()) * p.rank * p.channels + first_channel, p.channels,
                            first_channel);
  }

  const SweepBackward& b_;
  SweepWarp<Kind> w_;
  typename SweepBackwardShared<Kind>::Warp& mine_;
  SweepShares<Kind> (&shares_)[2][Kind::kWarps];
  SweepSums<Kind> sums_;
  float carry_ = 0, grad_A_ = 0, grad_bias_ = 0, grad_skip_ = 0;
};

// Grid (image blocks, channel blocks), block (2 · (warps + 1) · 32).
template <class Kind>
__global__ void __launch_bounds__(Kind::kThreads, 1) sweep_backward_kernel(const __grid_constant__ SweepBackward b) {
  extern __shared__ __align__(16) char memory[];
  auto& shared = *reinterpret_cast<SweepBackwardShared<Kind>*>(memory);
  prepare(shared.directions, b.sweep.warps, shared.bytes(b.sweep.warps));
  if (SweepDirection::brings_tokens(b.sweep)) {
    const SweepTokenWarp<Kind> warp(b.sweep, true, shared.directions);
    SweepShareSums<Kind> sums(b, warp, shared.shares[warp.reversed]);
    warp.run_and(shared.kAhead, [&](const SweepRows<Kind>& rows, int buffer) { sums.store(warp, rows, buffer); });
  } else {
    SweepBackwardScan<Kind>(b, shared).run();
  }
}

// As sum_channel_blocks_kernel, of the rows of a spare map that the sweeps have written: of positions without a token.
//   first (batch, length) of the order, numbers a row
static __global__ void sum_spare_channel_blocks_kernel(std::int64_t blocks, std::int64_t width, std::int64_t numbers,
                                                       const int* first, const float* x, bfloat16* out) {
  const std::int64_t i = global_thread();
  if (i >= width || first[i / numbers] >= 0) return;
  float sum = 0;
  for (std::int64_t block = 0; block < blocks; ++block) sum += x[block * width + i];
  out[i] = from_real<bfloat16>(sum);
}

/// Where the gradients of a scan's inputs go.
struct SweepGradients {
  bfloat16 *x, *projection;    ///< (batch, length, D), (batch, length, K, R + 2)
  bfloat16* spare_projection;  ///< likewise, by position: what belongs to no token; null for plain sweeps
};

/// Launches one sweep for each Sweep of `orders`; each adds to the results of those before. The weights' gradients are
/// accumulated. kQuad: for a quadtree's orders; comparisons_for(groups) then says where their comparisons go, with that
/// many groups an image.
template <bool kQuad = false, class SweepOf, class ComparisonsFor>
void sweep_backward(const Stream& stream, const ScanShape& shape, int orders, const bfloat16* grad_z,
                    const SweepGradients& to, const ScanWeightGradients<bfloat16>& grad_weights, SweepOf sweep_of,
                    ComparisonsFor comparisons_for) {
  const std::int64_t width = PackedScanGradients::width(shape);
  Sweep sweep = sweep_of(0);
  with_sweep_kind<true, kQuad>(sweep, [&]<class Kind>() {
    using Shared = SweepBackwardShared<Kind>;
    static_assert(Shared::bytes(Kind::kWarps) <= kSweepBytes);
    const SweepGrid grid(sweep.batch, shape.channels, warps_that_fit<Kind, Shared>());
    const std::int64_t projections = std::int64_t{sweep.batch} * sweep.length * shape.directions * shape.projection();
    const bool whole = grid.channel_blocks == 1;
    const std::int64_t partials = whole ? 0 : grid.channel_blocks * projections;
    const Scratch<float> partial(stream, partials), spare_partial(stream, sweep.plain ? 0 : partials);
    const Scratch<float> weight_sums(stream, grid.image_blocks * width);
    const SweepComparisons comparisons = comparisons_for(2 * grid.channel_blocks);
    for (int order = 0; order < orders; ++order) {
      sweep = sweep_of(order);
      sweep.warps = grid.warps;
      const SweepProjections projection{whole ? to.projection : nullptr, partial.data()};
      const SweepProjections spare_projection{whole ? to.spare_projection : nullptr, spare_partial.data()};
      launch_sweep("sweep_backward", stream, sweep_backward_kernel<Kind>, grid, Shared::bytes(grid.warps),
                   SweepBackward{sweep, grad_z, to.x, projection, spare_projection, weight_sums.data(), comparisons});
    }
    if (!whole) {
      sum_channel_blocks(stream, grid.channel_blocks, projections, partial.data(), to.projection);
      if (!sweep.plain) {
        sum_spare_channel_blocks_kernel<<<blocks_for(projections), kBlock, 0, native(stream)>>>(
            grid.channel_blocks, projections, shape.directions * shape.projection(), sweep.order.first,
            spare_partial.data(), to.spare_projection);
        check_launch("sum_spare_channel_blocks");
      }
    }
    const TokenBlockSum sums(stream, grid.image_blocks, width, weight_sums.data());
    const PackedWeightsScratch weights(stream, shape, sweep.weights);
    add_weight_gradients(stream, shape, weights.packed(), sums.data(), grad_weights);
  });
}

}  // namespace qm::cuda
