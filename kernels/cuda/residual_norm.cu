#include "kernels/residual_norm.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/layer_norm_row.cuh"
#include "kernels/cuda/layer_norm_slice.cuh"
#include "kernels/noise.h"

namespace qm::cuda {
namespace {

template <class T>
__device__ __forceinline__ Real<T> scale_of(const DropPathSite& drop_path, std::int64_t sample) {
  return drop_path_scale(drop_path.record, drop_path.site, drop_path.rate, static_cast<std::uint32_t>(sample));
}

// stream' = stream + s branch, y = LayerNorm(stream') where there is a weight.
// A warp a row, 8 rows a block: stream, branch, stream_out, y (rows, channels); weight, bias (channels);
// mean, rstd (rows). A lane normalises what it has summed itself, so no lane waits for another's writes.
template <class T>
__global__ void residual_norm_forward_kernel(std::int64_t rows, ResidualNormForward<T> p) {
  const std::int64_t row = warp_row();
  if (row >= rows) return;
  const std::int64_t at = row * p.channels;
  const Real<T> scale = scale_of<T>(p.drop_path, row / p.rows_per_sample);
  for (std::int64_t c = threadIdx.x % kWarp; c < p.channels; c += kWarp) {
    p.stream_out[at + c] = from_real<T>(to_real(p.stream[at + c]) + scale * to_real(p.branch[at + c]));
  }
  if (p.weight) {
    normalize_row(p.channels, p.stream_out + at, p.weight, p.bias, p.y + at, p.mean + row, p.rstd + row);
  }
}

// G = grad_stream' + LayerNorm's gradient; grad_stream = G, grad_branch = s G.
// A warp a row, 8 rows a block: stream_out, grad_stream_out, grad_y, grad_stream, grad_branch (rows, channels), the
// last four may be null; weight (channels); mean, rstd (rows).
template <class T>
__global__ void residual_norm_backward_kernel(std::int64_t rows, ResidualNormBackward<T> p) {
  using R = Real<T>;
  const std::int64_t row = warp_row();
  if (row >= rows) return;
  const std::int64_t at = row * p.channels;
  const R scale = scale_of<T>(p.drop_path, row / p.rows_per_sample);
  const auto write = [&](std::int64_t c, R total) {
    if (p.grad_stream) p.grad_stream[at + c] = from_real<T>(total);
    if (p.grad_branch) p.grad_branch[at + c] = from_real<T>(scale * total);
  };
  if (!p.grad_y) {
    for (std::int64_t c = threadIdx.x % kWarp; c < p.channels; c += kWarp) write(c, to_real(p.grad_stream_out[at + c]));
    return;
  }
  const RowGradient<T> norm(p.channels, p.stream_out + at, p.weight, p.mean[row], p.rstd[row], p.grad_y + at);
  for (std::int64_t c = threadIdx.x % kWarp; c < p.channels; c += kWarp) {
    write(c, p.grad_stream_out ? norm.at(c) + to_real(p.grad_stream_out[at + c]) : norm.at(c));
  }
}

// ---- without a LayerNorm --------------------------------------------------------------------------------------------

constexpr int kWide = 8;     ///< numbers of a vector
constexpr int kVectors = 4;  ///< of a thread

/// body(first number) for the vectors of a thread of grid (samples, parts of a sample).
template <class Body>
__device__ __forceinline__ void for_vectors_of_sample(std::int64_t sample_size, Body body) {
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * kBlock * kVectors + threadIdx.x;
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const std::int64_t first = (begin + k * kBlock) * kWide;
    if (first < sample_size) body(blockIdx.x * sample_size + first);
  }
}

/// Whether samples of that size can be added by vectors, the addresses given and the grid's second extent allowing.
template <class... T>
bool vectors_fit_samples(std::int64_t sample_size, const T*... samples) {
  return vectors_fit<kWide>(sample_size, samples...) && sample_size <= std::int64_t{65535} * kBlock * kVectors * kWide;
}

dim3 grid_of_samples(std::int64_t batch, std::int64_t sample_size) {
  return dim3(static_cast<unsigned int>(batch), blocks_for(sample_size, kBlock * kVectors * kWide));
}

// stream' = stream + s branch. Grid (samples, parts of a sample): stream, branch, stream_out (samples, sample_size).
template <class T>
__global__ void residual_add_forward_kernel(std::int64_t sample_size, ResidualNormForward<T> p) {
  const float scale = scale_of<T>(p.drop_path, blockIdx.x);
  for_vectors_of_sample(sample_size, [&](std::int64_t at) {
    const auto stream = Vector<T, kWide>::load(p.stream + at), branch = Vector<T, kWide>::load(p.branch + at);
    float sum[kWide];
    for (int i = 0; i < kWide; ++i) sum[i] = stream[i] + scale * branch[i];
    store_vector<kWide>(sum, p.stream_out + at);
  });
}

// grad_stream = G, grad_branch = s G, each unless null. Grid (samples, parts of a sample): (samples, sample_size) each.
template <class T>
__global__ void residual_add_backward_kernel(std::int64_t sample_size, ResidualNormBackward<T> p) {
  const float scale = scale_of<T>(p.drop_path, blockIdx.x);
  for_vectors_of_sample(sample_size, [&](std::int64_t at) {
    const auto total = Vector<T, kWide>::load(p.grad_stream_out + at);
    if (p.grad_stream) total.store(p.grad_stream + at);
    if (!p.grad_branch) return;
    float scaled[kWide];
    for (int i = 0; i < kWide; ++i) scaled[i] = scale * total[i];
    store_vector<kWide>(scaled, p.grad_branch + at);
  });
}

// ---- rows in registers ----------------------------------------------------------------------------------------------

/// Drop path's scale of the sample that a row belongs to, drawn when the sample changes.
template <class T>
class SampleScale {
 public:
  __device__ __forceinline__ SampleScale(const DropPathSite& drop_path, std::int64_t rows_per_sample)
      : drop_path_(drop_path), rows_per_sample_(rows_per_sample) {}

  /// Of a row that is not before the one asked for last.
  __device__ __forceinline__ Real<T> at(std::int64_t row) {
    if (row >= end_) {
      const std::int64_t sample = row / rows_per_sample_;
      end_ = (sample + 1) * rows_per_sample_;
      scale_ = scale_of<T>(drop_path_, sample);
    }
    return scale_;
  }

 private:
  const DropPathSite& drop_path_;
  std::int64_t rows_per_sample_, end_ = 0;
  Real<T> scale_ = 0;
};

// Grid (chunks of rows); a group of lanes a row, by Layout: as above, with a weight.
template <class Layout, class T>
__global__ void __launch_bounds__(kBlock, Layout::kForwardBlocks)
    residual_norm_forward_slice_kernel(std::int64_t rows, const __grid_constant__ ResidualNormForward<T> p,
                                       std::int64_t chunk_rows) {
  const int channels = static_cast<int>(p.channels);
  ChunkRows<Layout> at(rows, chunk_rows);
  typename Layout::template Share<T> coming_stream, coming_branch;
  const auto load = [&](int ahead) {
    const std::int64_t first = (at.row + ahead * Layout::kGroups) * channels;
    Layout::load(at.width(channels, ahead), p.stream + first, coming_stream);
    Layout::load(at.width(channels, ahead), p.branch + first, coming_branch);
  };
  load(0);
  typename Layout::template Share<float> weight, bias;
  Layout::load(channels, p.weight, weight);
  Layout::load(channels, p.bias, bias);
  SampleScale<T> scales(p.drop_path, p.rows_per_sample);
  for (int step = 0; step < at.steps; ++step, at.next()) {
    const float scale = scales.at(at.row);
    // Rounded: backward normalises what is stored.
    typename Layout::template Share<T> sum;
#pragma unroll
    for (int k = 0; k < Layout::K; ++k) {
      float numbers[Layout::N];
#pragma unroll
      for (int i = 0; i < Layout::N; ++i) numbers[i] = coming_stream[k][i] + scale * coming_branch[k][i];
      sum[k] = Vector<T, Layout::N>::of(numbers);
    }
    load(1);
    const int width = at.width(channels);
    Layout::store_share(width, sum, p.stream_out + at.row * channels);
    write_normalized<Layout>(width, channels, at.row, sum, weight, bias, p.y, p.mean, p.rstd);
  }
}

// As above with a grad_y, and the first stage of the sums over rows. Grid (chunks of rows); a group of lanes a row, by
// Layout: partial_weight, partial_bias (chunks, channels).
template <class Layout, class T>
__global__ void __launch_bounds__(kBlock, Layout::kBackwardBlocks)
    residual_norm_backward_slice_kernel(std::int64_t rows, const __grid_constant__ ResidualNormBackward<T> p,
                                        std::int64_t chunk_rows, float* partial_weight, float* partial_bias) {
  const int channels = static_cast<int>(p.channels);
  ChunkRows<Layout> at(rows, chunk_rows);
  BackwardRow<Layout, T> coming;
  coming.load(at.width(channels), channels, at.row, p.stream_out, p.grad_y, p.mean, p.rstd);
  typename Layout::template Share<float> weight;
  Layout::load(channels, p.weight, weight);
  typename Layout::Sums sum_weight = {}, sum_bias = {};
  SampleScale<T> scales(p.drop_path, p.rows_per_sample);
  for (int step = 0; step < at.steps; ++step, at.next()) {
    const int width = at.width(channels);
    const std::int64_t first = at.row * channels;
    const BackwardRow<Layout, T> row = coming;
    typename Layout::template Share<T> grad_stream_out;
    Layout::load(p.grad_stream_out ? width : 0, p.grad_stream_out + first, grad_stream_out);
    coming.load(at.width(channels, 1), channels, at.row + Layout::kGroups, p.stream_out, p.grad_y, p.mean, p.rstd);
    const SliceGradient<Layout, T> norm(channels, weight, row, sum_weight, sum_bias);
    const auto total = [&](int k, int i) { return norm.at(k, i) + grad_stream_out[k][i]; };
    const float scale = scales.at(at.row);
    if (p.grad_stream) Layout::store(width, p.grad_stream + first, total);
    if (p.grad_branch) Layout::store(width, p.grad_branch + first, [&](int k, int i) { return scale * total(k, i); });
  }
  store_group_sums<Layout>(channels, sum_weight, partial_weight + blockIdx.x * p.channels);
  store_group_sums<Layout>(channels, sum_bias, partial_bias + blockIdx.x * p.channels);
}

}  // namespace

template <class T>
void residual_norm_forward(const Stream& stream, const ResidualNormForward<T>& p) {
  const std::int64_t rows = p.batch * p.rows_per_sample, sample_size = p.rows_per_sample * p.channels;
  if (rows == 0) return;
  if (!p.weight && vectors_fit_samples(sample_size, p.stream, p.branch, p.stream_out)) {
    residual_add_forward_kernel<<<grid_of_samples(p.batch, sample_size), kBlock, 0, native(stream)>>>(sample_size, p);
    return check_launch("residual_add_forward");
  }
  const bool in_registers =
      p.weight && vectors_fit<8>(8, p.stream, p.branch, p.stream_out, p.y) && vectors_fit<4>(4, p.weight, p.bias) &&
      with_slice_layout(p.channels, [&]<class Layout>() {
        constexpr int kChunkRows = Layout::kGroups * kForwardSteps;
        residual_norm_forward_slice_kernel<Layout><<<blocks_for(rows, kChunkRows), kBlock, 0, native(stream)>>>(
            rows, p, kChunkRows);
        check_launch("residual_norm_forward");
      });
  if (in_registers) return;
  residual_norm_forward_kernel<<<blocks_for(rows, kRowsPerBlock), kBlock, 0, native(stream)>>>(rows, p);
  check_launch("residual_norm_forward");
}

template <class T>
void residual_norm_backward(const Stream& stream, const ResidualNormBackward<T>& p) {
  const std::int64_t rows = p.batch * p.rows_per_sample, sample_size = p.rows_per_sample * p.channels;
  if (rows == 0) return;
  if (!p.grad_y && vectors_fit_samples(sample_size, p.grad_stream_out, p.grad_stream, p.grad_branch)) {
    residual_add_backward_kernel<<<grid_of_samples(p.batch, sample_size), kBlock, 0, native(stream)>>>(sample_size, p);
    return check_launch("residual_add_backward");
  }
  const bool in_registers =
      p.grad_y && vectors_fit<8>(8, p.stream_out, p.grad_y, p.grad_stream_out, p.grad_stream, p.grad_branch) &&
      vectors_fit<4>(4, p.weight) &&
      with_slice_layout(p.channels, [&]<class Layout>() {
        const NormGradientSums sums(stream, rows, p.channels);
        residual_norm_backward_slice_kernel<Layout><<<sums.blocks(), kBlock, 0, native(stream)>>>(
            rows, p, sums.chunk_rows(), sums.partial_weight(), sums.partial_bias());
        check_launch("residual_norm_backward");
        sums.add_to(p.grad_weight, p.grad_bias);
      });
  if (in_registers) return;
  residual_norm_backward_kernel<<<blocks_for(rows, kRowsPerBlock), kBlock, 0, native(stream)>>>(rows, p);
  check_launch("residual_norm_backward");
  if (!p.grad_y) return;
  add_norm_gradients(stream, rows, p.channels, p.stream_out, p.mean, p.rstd, p.grad_y, p.grad_weight, p.grad_bias);
}

QM_INSTANTIATE_CUDA(residual_norm_forward, ResidualNormForward)
QM_INSTANTIATE_CUDA(residual_norm_backward, ResidualNormBackward)

}  // namespace qm::cuda
