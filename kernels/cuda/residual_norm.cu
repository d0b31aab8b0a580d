#include "kernels/residual_norm.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/layer_norm_row.cuh"
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
// A warp a row, 8 rows a block: stream_out, grad_stream_out, grad_y, grad_stream, grad_branch (rows, channels), the last
// four may be null; weight (channels); mean, rstd (rows).
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

}  // namespace

template <class T>
void residual_norm_forward(const Stream& stream, const ResidualNormForward<T>& p) {
  const std::int64_t rows = p.batch * p.rows_per_sample;
  if (rows == 0) return;
  residual_norm_forward_kernel<<<blocks_for(rows, kRowsPerBlock), kBlock, 0, native(stream)>>>(rows, p);
  check_launch("residual_norm_forward");
}

template <class T>
void residual_norm_backward(const Stream& stream, const ResidualNormBackward<T>& p) {
  const std::int64_t rows = p.batch * p.rows_per_sample;
  if (rows == 0) return;
  residual_norm_backward_kernel<<<blocks_for(rows, kRowsPerBlock), kBlock, 0, native(stream)>>>(rows, p);
  check_launch("residual_norm_backward");
  if (!p.grad_y) return;
  add_norm_gradients(stream, rows, p.channels, p.stream_out, p.mean, p.rstd, p.grad_y, p.grad_weight, p.grad_bias);
}

QM_INSTANTIATE_CUDA(residual_norm_forward, ResidualNormForward)
QM_INSTANTIATE_CUDA(residual_norm_backward, ResidualNormBackward)

}  // namespace qm::cuda
