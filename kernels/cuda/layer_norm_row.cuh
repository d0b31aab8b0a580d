// One row of LayerNorm by one warp, and the sums over rows for γ and β: shared by layer_norm and residual_norm.
#pragma once

#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/layer_norm.h"

namespace qm::cuda {

/// Rows a block of kBlock threads works on.
inline constexpr int kRowsPerBlock = kBlock / kWarp;

/// The row of the calling warp.
__device__ __forceinline__ std::int64_t warp_row() {
  return static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
}

/// y = (x − μ) rstd γ + β. All pointers are the row's; lane i takes channels i, i + 32, …
template <class T>
__device__ __forceinline__ void normalize_row(std::int64_t channels, const T* x, const Real<T>* weight,
                                              const Real<T>* bias, T* y, Real<T>* mean_out, Real<T>* rstd_out) {
  using R = Real<T>;
  const int lane = threadIdx.x % kWarp;
  R sum = 0;
  for (std::int64_t c = lane; c < channels; c += kWarp) sum += to_real(x[c]);
  const R mean = warp_sum(sum) / static_cast<R>(channels);
  R squares = 0;
  for (std::int64_t c = lane; c < channels; c += kWarp) {
    const R centred = to_real(x[c]) - mean;
    squares += centred * centred;
  }
  const R rstd = R(1) / sqrt(warp_sum(squares) / static_cast<R>(channels) + static_cast<R>(kLayerNormEpsilon));
  for (std::int64_t c = lane; c < channels; c += kWarp) {
    y[c] = from_real<T>((to_real(x[c]) - mean) * rstd * weight[c] + bias[c]);
  }
  if (lane == 0) {
    *mean_out = mean;
    *rstd_out = rstd;
  }
}

/// grad_x of one row: rstd · (g − mean_c(g) − n · mean_c(g n)), g = grad_y γ, n = (x − μ) rstd.
template <class T>
class RowGradient {
 public:
  using R = Real<T>;

  /// All lanes of a warp, with the row's pointers and statistics.
  __device__ __forceinline__ RowGradient(std::int64_t channels, const T* x, const R* weight, R mean, R rstd,
                                         const T* grad_y)
      : x_(x), weight_(weight), grad_y_(grad_y), mean_(mean), rstd_(rstd) {
    R sum_g = 0, sum_gn = 0;
    for (std::int64_t c = threadIdx.x % kWarp; c < channels; c += kWarp) {
      const R g = to_real(grad_y[c]) * weight[c];
      sum_g += g;
      sum_gn += g * normalized(c);
    }
    mean_g_ = warp_sum(sum_g) / static_cast<R>(channels);
    mean_gn_ = warp_sum(sum_gn) / static_cast<R>(channels);
  }

  __device__ __forceinline__ R at(std::int64_t c) const {
    return rstd_ * (to_real(grad_y_[c]) * weight_[c] - mean_g_ - normalized(c) * mean_gn_);
  }

 private:
  __device__ __forceinline__ R normalized(std::int64_t c) const { return (to_real(x_[c]) - mean_) * rstd_; }

  const T* x_;
  const R* weight_;
  const T* grad_y_;
  R mean_, rstd_, mean_g_, mean_gn_;
};

// First stage of grad_γ = Σ_rows grad_y n and grad_β = Σ_rows grad_y.
// Grid (chunks of rows, channels / 32), block (32 channels, 8 row lanes): x, grad_y (rows, channels); mean, rstd
// (rows); partial_weight, partial_bias (chunks, channels).
template <class T>
__global__ void norm_gradient_kernel(std::int64_t rows, std::int64_t chunk_rows, std::int64_t channels, const T* x,
                                     const Real<T>* mean, const Real<T>* rstd, const T* grad_y, Real<T>* partial_weight,
                                     Real<T>* partial_bias) {
  using R = Real<T>;
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x;
  const std::int64_t first = blockIdx.x * chunk_rows;
  const std::int64_t last = min(rows, first + chunk_rows);
  R sum_weight = 0, sum_bias = 0;
  if (c < channels) {
    for (std::int64_t row = first + threadIdx.y; row < last; row += kRowLanes) {
      const R grad = to_real(grad_y[row * channels + c]);
      sum_weight += grad * (to_real(x[row * channels + c]) - mean[row]) * rstd[row];
      sum_bias += grad;
    }
  }
  sum_weight = sum_row_lanes(sum_weight);
  sum_bias = sum_row_lanes(sum_bias);
  if (threadIdx.y == 0 && c < channels) {
    partial_weight[blockIdx.x * channels + c] = sum_weight;
    partial_bias[blockIdx.x * channels + c] = sum_bias;
  }
}

/// The two stages of the sums over rows for γ and β.
class NormGradientSums {
 public:
  NormGradientSums(const Stream& stream, std::int64_t rows, std::int64_t channels)
      : stream_(stream),
        channels_(channels),
        chunks_(row_chunks(rows)),
        partial_(stream, 2 * chunks_.count * channels) {}

  const RowChunks& chunks() const { return chunks_; }
  unsigned int blocks() const { return static_cast<unsigned int>(chunks_.count); }
  std::int64_t chunk_rows() const { return chunks_.rows; }

  /// What the first stage fills: (chunks, channels) each.
  float* partial_weight() const { return partial_.data(); }
  float* partial_bias() const { return partial_.data() + chunks_.count * channels_; }

  /// The second stage: grad_weight += Σ, grad_bias += Σ; each unless null.
  void add_to(float* grad_weight, float* grad_bias) const {
    add_column_sums_of_two(stream_, chunks_.count, channels_, partial_.data(), grad_weight, grad_bias);
  }

 private:
  const Stream& stream_;
  std::int64_t channels_;
  RowChunks chunks_;
  Scratch<float> partial_;
};

/// grad_weight += Σ grad_y n, grad_bias += Σ grad_y; each unless null.
template <class T>
void add_norm_gradients(const Stream& stream, std::int64_t rows, std::int64_t channels, const T* x, const Real<T>* mean,
                        const Real<T>* rstd, const T* grad_y, Real<T>* grad_weight, Real<T>* grad_bias) {
  if (!grad_weight && !grad_bias) return;
  const NormGradientSums sums(stream, rows, channels);
  norm_gradient_kernel<<<sums.chunks().grid(channels), RowChunks::block(), 0, native(stream)>>>(
      rows, sums.chunk_rows(), channels, x, mean, rstd, grad_y, sums.partial_weight(), sums.partial_bias());
  check_launch("norm_gradient");
  sums.add_to(grad_weight, grad_bias);
}

}  // namespace qm::cuda
