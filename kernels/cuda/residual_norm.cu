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

// ---- rows in registers ----------------------------------------------------------------------------------------------

// A warp a row, 4 rows a warp: as above, with a weight.
template <class Layout, class T>
__global__ void residual_norm_forward_slice_kernel(std::int64_t rows, ResidualNormForward<T> p) {
  using Values = typename Layout::template Values<Real<T>>;
  const int channels = static_cast<int>(p.channels);
  Values weight, bias;
  Layout::load_parameters(channels, p.weight, weight);
  Layout::load_parameters(channels, p.bias, bias);
  const std::int64_t first = warp_row() * kRowsPerWarp, last = min(rows, first + kRowsPerWarp);
  for (std::int64_t row = first; row < last; ++row) {
    const std::int64_t at = row * channels;
    const Real<T> scale = scale_of<T>(p.drop_path, row / p.rows_per_sample);
    Values sum, branch;
    Layout::load(channels, p.stream + at, sum);
    Layout::load(channels, p.branch + at, branch);
#pragma unroll
    for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
      for (int i = 0; i < Layout::N; ++i) {
        // Rounded first: backward normalises what is stored.
        sum[k][i] = to_real(from_real<T>(sum[k][i] + scale * branch[k][i]));
      }
    }
    Layout::store(channels, sum, p.stream_out + at);
    normalize_slice<Layout>(channels, weight, bias, sum, p.mean + row, p.rstd + row);
    Layout::store(channels, sum, p.y + at);
  }
}

// As above with a grad_y, and the first stage of the sums over rows. Grid (chunks of rows), 8 warps a block that take
// every eighth row: partial_weight, partial_bias (chunks, channels).
template <class Layout, class T>
__global__ void residual_norm_backward_slice_kernel(std::int64_t rows, ResidualNormBackward<T> p,
                                                    std::int64_t chunk_rows, Real<T>* partial_weight,
                                                    Real<T>* partial_bias) {
  using R = Real<T>;
  using Values = typename Layout::template Values<R>;
  const int channels = static_cast<int>(p.channels);
  Values weight, sum_weight = {}, sum_bias = {};
  Layout::load_parameters(channels, p.weight, weight);
  const std::int64_t first = blockIdx.x * chunk_rows, last = min(rows, first + chunk_rows);
  ComingRow<Layout, T> coming;
  const auto fetch = [&](std::int64_t row) {
    if (row < last) coming.fetch(channels, p.stream_out, p.grad_y, p.mean, p.rstd, row);
  };
  fetch(first + threadIdx.x / kWarp);
  for (std::int64_t row = first + threadIdx.x / kWarp; row < last; row += kRowsPerBlock) {
    const std::int64_t at = row * channels;
    const R scale = scale_of<T>(p.drop_path, row / p.rows_per_sample);
    Values x, grad;
    Layout::take(coming.x, x);
    Layout::take(coming.grad_y, grad);
    const R mean = coming.mean, rstd = coming.rstd;
    typename Layout::template Coming<T> grad_stream_out;
    if (p.grad_stream_out) Layout::fetch(channels, p.grad_stream_out + at, grad_stream_out);
    fetch(row + kRowsPerBlock);
    slice_gradient<Layout>(channels, weight, mean, rstd, x, grad, sum_weight, sum_bias);
    if (p.grad_stream_out) {
      Layout::take(grad_stream_out, x);
#pragma unroll
      for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
        for (int i = 0; i < Layout::N; ++i) grad[k][i] += x[k][i];
      }
    }
    if (p.grad_stream) Layout::store(channels, grad, p.grad_stream + at);
    if (!p.grad_branch) continue;
#pragma unroll
    for (int k = 0; k < Layout::K; ++k) {
#pragma unroll
      for (int i = 0; i < Layout::N; ++i) grad[k][i] *= scale;
    }
    Layout::store(channels, grad, p.grad_branch + at);
  }
  store_warp_sums<Layout>(channels, sum_weight, partial_weight + blockIdx.x * p.channels);
  store_warp_sums<Layout>(channels, sum_bias, partial_bias + blockIdx.x * p.channels);
}

}  // namespace

template <class T>
void residual_norm_forward(const Stream& stream, const ResidualNormForward<T>& p) {
  const std::int64_t rows = p.batch * p.rows_per_sample;
  if (rows == 0) return;
  const bool in_registers =
      p.weight && vectors_fit<8>(8, p.stream, p.branch, p.stream_out, p.y) &&
      with_slice_layout(p.channels, [&]<class Layout>() {
        residual_norm_forward_slice_kernel<Layout>
            <<<blocks_for(rows, kRowsPerBlock * kRowsPerWarp), kBlock, 0, native(stream)>>>(rows, p);
        check_launch("residual_norm_forward");
      });
  if (in_registers) return;
  residual_norm_forward_kernel<<<blocks_for(rows, kRowsPerBlock), kBlock, 0, native(stream)>>>(rows, p);
  check_launch("residual_norm_forward");
}

template <class T>
void residual_norm_backward(const Stream& stream, const ResidualNormBackward<T>& p) {
  const std::int64_t rows = p.batch * p.rows_per_sample;
  if (rows == 0) return;
  const bool in_registers =
      p.grad_y && vectors_fit<8>(8, p.stream_out, p.grad_y, p.grad_stream_out, p.grad_stream, p.grad_branch) &&
      with_slice_layout(p.channels, [&]<class Layout>() {
        const NormGradientSums<Real<T>> sums(stream, rows, p.channels);
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
