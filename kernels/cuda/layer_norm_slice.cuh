// A row of LayerNorm held by a warp in registers: every number is read once. For the widths of with_slice_layout(); the
// others go by kernels/cuda/layer_norm_row.cuh.
#pragma once

#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/layer_norm.h"

namespace qm::cuda {

/// A lane's share of a row: vectors lane, lane + 32, … of N_ channels each, K_ of them; 0 beyond the row.
template <int N_, int K_>
struct SliceLayout {
  static constexpr int N = N_, K = K_;

  template <class R>
  using Values = R[K][N];

  __device__ __forceinline__ static int channel(int k) { return (k * kWarp + threadIdx.x % kWarp) * N; }

  /// A share on its way from memory.
  template <class T>
  using Coming = Vector<T, N>[K];

  template <class T>
  __device__ __forceinline__ static void fetch(int channels, const T* row, Coming<T>& coming) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      coming[k] = channel(k) < channels ? Vector<T, N>::load(row + channel(k)) : Vector<T, N>();
    }
  }
  template <class T>
  __device__ __forceinline__ static void take(const Vector<T, N> (&coming)[K], Values<Real<T>>& to) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
#pragma unroll
      for (int i = 0; i < N; ++i) to[k][i] = coming[k][i];
    }
  }
  template <class T>
  __device__ __forceinline__ static void load(int channels, const T* row, Values<Real<T>>& to) {
    Coming<T> coming;
    fetch(channels, row, coming);
    take(coming, to);
  }
  /// The same for parameters, which may lie anywhere.
  template <class R>
  __device__ __forceinline__ static void load_parameters(int channels, const R* row, Values<R>& to) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
#pragma unroll
      for (int i = 0; i < N; ++i) to[k][i] = channel(k) < channels ? row[channel(k) + i] : R(0);
    }
  }
  template <class T>
  __device__ __forceinline__ static void store(int channels, const Values<Real<T>>& from, T* row) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (channel(k) < channels) store_vector<N>(from[k], row + channel(k));
    }
  }
};

/// with_slice_layout() among vectors of N channels, K of them.
template <int N, int... K, class Body>
bool with_vectors_of(std::int64_t channels, Body& body) {
  return channels % N == 0 &&
         ((channels <= kWarp * N * K && (body.template operator()<SliceLayout<N, K>>(), true)) || ...);
}

/// Calls body.template operator()<Layout>() with the layout that suits rows of `channels`; false where none does.
template <class Body>
bool with_slice_layout(std::int64_t channels, Body body) {
  if (channels <= 64) return with_vectors_of<2, 1>(channels, body);
  if (channels <= 512) return with_vectors_of<4, 1, 2, 3, 4>(channels, body);
  return with_vectors_of<8, 3, 4, 6>(channels, body);
}

/// y = (x − μ) rstd γ + β in place of x; lane 0 keeps the statistics.
template <class Layout, class R>
__device__ __forceinline__ void normalize_slice(int channels, const R (&weight)[Layout::K][Layout::N],
                                                const R (&bias)[Layout::K][Layout::N], R (&x)[Layout::K][Layout::N],
                                                R* mean_out, R* rstd_out) {
  R sum = 0;
#pragma unroll
  for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
    for (int i = 0; i < Layout::N; ++i) sum += x[k][i];
  }
  const R mean = warp_sum(sum) / static_cast<R>(channels);
  R squares = 0;
#pragma unroll
  for (int k = 0; k < Layout::K; ++k) {
    if (Layout::channel(k) >= channels) continue;
#pragma unroll
    for (int i = 0; i < Layout::N; ++i) {
      x[k][i] -= mean;
      squares += x[k][i] * x[k][i];
    }
  }
  const R rstd = R(1) / sqrt(warp_sum(squares) / static_cast<R>(channels) + static_cast<R>(kLayerNormEpsilon));
#pragma unroll
  for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
    for (int i = 0; i < Layout::N; ++i) x[k][i] = x[k][i] * rstd * weight[k][i] + bias[k][i];
  }
  if (threadIdx.x % kWarp == 0) {
    *mean_out = mean;
    *rstd_out = rstd;
  }
}

/// What backward reads of a row, on its way while the row before is worked on.
template <class Layout, class T>
struct ComingRow {
  typename Layout::template Coming<T> x, grad_y;
  Real<T> mean, rstd;

  __device__ __forceinline__ void fetch(int channels, const T* all_x, const T* all_grad_y, const Real<T>* all_mean,
                                        const Real<T>* all_rstd, std::int64_t row) {
    Layout::fetch(channels, all_x + row * channels, x);
    Layout::fetch(channels, all_grad_y + row * channels, grad_y);
    mean = all_mean[row];
    rstd = all_rstd[row];
  }
};

/// grad_x of one row in place of grad_y, rstd · (g − mean_c(g) − n · mean_c(g n)) with g = grad_y γ and
/// n = (x − μ) rstd; adds grad_y n and grad_y to the sums over rows.
template <class Layout, class R>
__device__ __forceinline__ void slice_gradient(int channels, const R (&weight)[Layout::K][Layout::N], R mean, R rstd,
                                               const R (&x)[Layout::K][Layout::N], R (&grad)[Layout::K][Layout::N],
                                               R (&sum_weight)[Layout::K][Layout::N],
                                               R (&sum_bias)[Layout::K][Layout::N]) {
  R sum_g = 0, sum_gn = 0;
#pragma unroll
  for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
    for (int i = 0; i < Layout::N; ++i) {
      const R n = (x[k][i] - mean) * rstd, g = grad[k][i] * weight[k][i];
      sum_weight[k][i] += grad[k][i] * n;
      sum_bias[k][i] += grad[k][i];
      sum_g += g;
      sum_gn += g * n;
    }
  }
  const R mean_g = warp_sum(sum_g) / static_cast<R>(channels), mean_gn = warp_sum(sum_gn) / static_cast<R>(channels);
#pragma unroll
  for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
    for (int i = 0; i < Layout::N; ++i) {
      grad[k][i] = rstd * (grad[k][i] * weight[k][i] - mean_g - (x[k][i] - mean) * rstd * mean_gn);
    }
  }
}

/// partial (channels) = the sum over the block's warps, in their order. All threads of a block of kBlock must call it.
template <class Layout, class R>
__device__ __forceinline__ void store_warp_sums(int channels, const R (&sum)[Layout::K][Layout::N], R* partial) {
  constexpr int kWarps = kBlock / kWarp, kVectors = kWarp * Layout::N;
  __shared__ R of_warp[kWarps][kVectors];
#pragma unroll
  for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
    for (int i = 0; i < Layout::N; ++i) of_warp[threadIdx.x / kWarp][threadIdx.x % kWarp * Layout::N + i] = sum[k][i];
    __syncthreads();
    for (int c = threadIdx.x; c < kVectors; c += kBlock) {
      R total = 0;
      for (int warp = 0; warp < kWarps; ++warp) total += of_warp[warp][c];
      if (k * kVectors + c < channels) partial[k * kVectors + c] = total;
    }
    __syncthreads();
  }
}

}  // namespace qm::cuda
