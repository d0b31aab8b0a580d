// A row of LayerNorm held in registers by a few lanes, or by a warp: every number is read once. For the widths of
// with_slice_layout(); the others go by kernels/cuda/layer_norm_row.cuh.
//
// A block walks a chunk of rows, as many at once as it has groups of lanes. A lane keeps its channels' parameters, has
// the next row on its way while it works on one, and takes part in the sums over a row even where its group has none.
#pragma once

#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/layer_norm.h"

namespace qm::cuda {

/// L lanes a row. A lane's share of it: vectors lane, lane + L, … of N channels each, K of them; 0 beyond the row.
template <int L, int N_, int K_>
struct SliceLayout {
  static constexpr int kLanes = L, N = N_, K = K_;
  static constexpr int kGroups = kBlock / L;  ///< rows that a block works on at once
  /// Blocks a multiprocessor that registers are shared out for, so that enough rows are on their way.
  static constexpr int kForwardBlocks = N * K <= 8 ? 4 : N * K <= 16 ? 3 : N * K <= 32 ? 2 : 1;
  static constexpr int kBackwardBlocks = N * K <= 6 ? 4 : N * K <= 8 ? 3 : N * K <= 16 ? 2 : 1;

  __device__ __forceinline__ static int group() { return static_cast<int>(threadIdx.x) / L; }
  __device__ __forceinline__ static int lane() { return static_cast<int>(threadIdx.x) % L; }
  __device__ __forceinline__ static int channel(int k) { return (k * L + lane()) * N; }

  /// A lane's share of a row as it lies in memory: half the registers of its numbers in float, which are taken out
  /// where they are used.
  template <class T>
  using Share = Vector<T, N>[K];
  using Sums = float[K][N];

  template <class T>
  __device__ __forceinline__ static void load(int channels, const T* row, Share<T>& share) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      share[k] = channel(k) < channels ? Vector<T, N>::load(row + channel(k)) : Vector<T, N>();
    }
  }
  template <class T>
  __device__ __forceinline__ static void store_share(int channels, const Vector<T, N> (&share)[K], T* row) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (channel(k) < channels) share[k].store(row + channel(k));
    }
  }
  /// row[c] = number(k, i) for the lane's channels c.
  template <class T, class Number>
  __device__ __forceinline__ static void store(int channels, T* row, Number number) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      float numbers[N];
#pragma unroll
      for (int i = 0; i < N; ++i) numbers[i] = number(k, i);
      if (channel(k) < channels) store_vector<N>(numbers, row + channel(k));
    }
  }

  /// The sum over the row's lanes, in each of them: a butterfly. All lanes of the warp must call it.
  __device__ __forceinline__ static float sum(float value) {
#pragma unroll
    for (int offset = L / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
  }
};

/// Rows that a group takes of a forward pass's chunk: enough to be worth loading the parameters for.
inline constexpr int kForwardSteps = 4;

/// The rows that the calling lane's group takes of its block's chunk, one after another. All groups take as many steps.
template <class Layout>
struct ChunkRows {
  std::int64_t row, last;
  int steps;

  __device__ __forceinline__ ChunkRows(std::int64_t rows, std::int64_t chunk_rows)
      : row(blockIdx.x * chunk_rows + Layout::group()), last(min(rows, (blockIdx.x + 1) * chunk_rows)) {
    const std::int64_t here = last - blockIdx.x * chunk_rows;
    steps = static_cast<int>((here + Layout::kGroups - 1) / Layout::kGroups);
  }
  __device__ __forceinline__ void next() { row += Layout::kGroups; }
  /// `channels` where there is a row `ahead` rows of the group on, else 0: of such a row nothing is read or written.
  __device__ __forceinline__ int width(int channels, int ahead = 0) const {
    return row + ahead * Layout::kGroups < last ? channels : 0;
  }
};

/// Calls body.template operator()<Layout>() with the layout that suits rows of `channels`; false where none does.
template <class Body>
bool with_slice_layout(std::int64_t channels, Body body) {
  const auto with = [&]<int L, int N, int K>() {
    if (channels > L * N * K || channels % N != 0) return false;
    body.template operator()<SliceLayout<L, N, K>>();
    return true;
  };
  // The widths 48 · 2^i and 64 · 2^i leave no lane idle.
  return with.template operator()<4, 2, 3>() || with.template operator()<8, 2, 3>() ||
         with.template operator()<8, 2, 4>() || with.template operator()<16, 2, 3>() ||
         with.template operator()<16, 2, 4>() || with.template operator()<32, 2, 3>() ||
         with.template operator()<32, 4, 2>() || with.template operator()<32, 4, 3>() ||
         with.template operator()<32, 4, 4>() || with.template operator()<32, 8, 3>() ||
         with.template operator()<32, 8, 4>() || with.template operator()<32, 8, 6>();
}

/// Mean and 1 / standard deviation of a row. All lanes of the warp must make it.
template <class Layout>
struct SliceStatistics {
  float mean, rstd;

  template <class T>
  __device__ __forceinline__ SliceStatistics(int channels, const Vector<T, Layout::N> (&x)[Layout::K]) {
    const float each = 1.0f / static_cast<float>(channels);
    float sum = 0;
#pragma unroll
    for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
      for (int i = 0; i < Layout::N; ++i) sum += x[k][i];
    }
    mean = Layout::sum(sum) * each;
    float squares = 0;
#pragma unroll
    for (int k = 0; k < Layout::K; ++k) {
      if (Layout::channel(k) >= channels) continue;
#pragma unroll
      for (int i = 0; i < Layout::N; ++i) squares += (x[k][i] - mean) * (x[k][i] - mean);
    }
    rstd = 1.0f / sqrtf(Layout::sum(squares) * each + static_cast<float>(kLayerNormEpsilon));
  }
};

/// y = (x − μ) rstd γ + β and the row's statistics, all at row `row`; nothing where `width` is 0.
template <class Layout, class T>
__device__ __forceinline__ void write_normalized(int width, int channels, std::int64_t row,
                                                 const Vector<T, Layout::N> (&x)[Layout::K],
                                                 const Vector<float, Layout::N> (&weight)[Layout::K],
                                                 const Vector<float, Layout::N> (&bias)[Layout::K], T* y, float* mean,
                                                 float* rstd) {
  const SliceStatistics<Layout> row_is(channels, x);
  Layout::store(width, y + row * channels,
                [&](int k, int i) { return (x[k][i] - row_is.mean) * row_is.rstd * weight[k][i] + bias[k][i]; });
  if (Layout::lane() == 0 && width > 0) {
    mean[row] = row_is.mean;
    rstd[row] = row_is.rstd;
  }
}

/// What backward reads of a row; zeros of one that is not there, which adds nothing to sums.
template <class Layout, class T>
struct BackwardRow {
  typename Layout::template Share<T> x, grad_y;
  float mean, rstd;

  __device__ __forceinline__ void load(int width, int channels, std::int64_t row, const T* all_x, const T* all_grad_y,
                                       const float* all_mean, const float* all_rstd) {
    Layout::load(width, all_x + row * channels, x);
    Layout::load(width, all_grad_y + row * channels, grad_y);
    mean = width > 0 ? all_mean[row] : 0.0f;
    rstd = width > 0 ? all_rstd[row] : 0.0f;
  }
  __device__ __forceinline__ float normalized(int k, int i) const { return (x[k][i] - mean) * rstd; }
};

/// grad_x of one row, rstd · (g − mean_c(g) − n · mean_c(g n)) with g = grad_y γ and n = (x − μ) rstd. All lanes of the
/// warp must make it.
template <class Layout, class T>
class SliceGradient {
 public:
  /// Adds grad_y n and grad_y to the sums over rows.
  __device__ __forceinline__ SliceGradient(int channels, const Vector<float, Layout::N> (&weight)[Layout::K],
                                           const BackwardRow<Layout, T>& row,
                                           float (&sum_weight)[Layout::K][Layout::N],
                                           float (&sum_bias)[Layout::K][Layout::N])
      : weight_(weight), row_(row) {
    float sum_g = 0, sum_gn = 0;
#pragma unroll
    for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
      for (int i = 0; i < Layout::N; ++i) {
        const float n = row.normalized(k, i), g = row.grad_y[k][i] * weight[k][i];
        sum_weight[k][i] += row.grad_y[k][i] * n;
        sum_bias[k][i] += row.grad_y[k][i];
        sum_g += g;
        sum_gn += g * n;
      }
    }
    const float each = 1.0f / static_cast<float>(channels);
    mean_g_ = Layout::sum(sum_g) * each;
    mean_gn_ = Layout::sum(sum_gn) * each;
  }

  __device__ __forceinline__ float at(int k, int i) const {
    return row_.rstd * (row_.grad_y[k][i] * weight_[k][i] - mean_g_ - row_.normalized(k, i) * mean_gn_);
  }

 private:
  const Vector<float, Layout::N> (&weight_)[Layout::K];
  const BackwardRow<Layout, T>& row_;
  float mean_g_, mean_gn_;
};

/// partial (channels) = the sum over the block's groups, in a fixed order: a butterfly over those of a warp, then warp
/// after warp. All threads of a block of kBlock must call it.
template <class Layout>
__device__ __forceinline__ void store_group_sums(int channels, const float (&sum)[Layout::K][Layout::N],
                                                 float* partial) {
  constexpr int kWarps = kBlock / kWarp, kWidth = Layout::kLanes * Layout::N;  // channels of a vector of each lane
  __shared__ float of_warp[kWarps][kWidth];
#pragma unroll
  for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
    for (int i = 0; i < Layout::N; ++i) {
      float total = sum[k][i];
#pragma unroll
      for (int offset = kWarp / 2; offset >= Layout::kLanes; offset /= 2) {
        total += __shfl_xor_sync(0xffffffffu, total, offset);
      }
      if (threadIdx.x % kWarp < Layout::kLanes) of_warp[threadIdx.x / kWarp][Layout::lane() * Layout::N + i] = total;
    }
    __syncthreads();
    for (int c = threadIdx.x; c < kWidth; c += kBlock) {
      float total = 0;
      for (int warp = 0; warp < kWarps; ++warp) total += of_warp[warp][c];
      if (k * kWidth + c < channels) partial[k * kWidth + c] = total;
    }
    __syncthreads();
  }
}

}  // namespace qm::cuda
