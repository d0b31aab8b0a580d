#include "kernels/layer_norm.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/layer_norm_row.cuh"

namespace qm::cuda {
namespace {

// A warp a row, 8 rows a block: x, y (rows, channels); weight, bias (channels); mean, rstd (rows).
template <class T>
__global__ void layer_norm_forward_kernel(LayerNormForward<T> p) {
  const std::int64_t row = warp_row();
  if (row >= p.rows) return;
  const std::int64_t at = row * p.channels;
  normalize_row(p.channels, p.x + at, p.weight, p.bias, p.y + at, p.mean + row, p.rstd + row);
}

// grad_x. A warp a row, 8 rows a block: x, grad_y, grad_x (rows, channels); weight (channels); mean, rstd (rows).
template <class T>
__global__ void layer_norm_backward_kernel(LayerNormBackward<T> p) {
  const std::int64_t row = warp_row();
  if (row >= p.rows) return;
  const std::int64_t at = row * p.channels;
  const RowGradient<T> grad(p.channels, p.x + at, p.weight, p.mean[row], p.rstd[row], p.grad_y + at);
  for (std::int64_t c = threadIdx.x % kWarp; c < p.channels; c += kWarp) p.grad_x[at + c] = from_real<T>(grad.at(c));
}

}  // namespace

template <class T>
void layer_norm_forward(const Stream& stream, const LayerNormForward<T>& p) {
  if (p.rows == 0) return;
  layer_norm_forward_kernel<<<blocks_for(p.rows, kRowsPerBlock), kBlock, 0, native(stream)>>>(p);
  check_launch("layer_norm_forward");
}

template <class T>
void layer_norm_backward(const Stream& stream, const LayerNormBackward<T>& p) {
  if (p.rows == 0) return;
  layer_norm_backward_kernel<<<blocks_for(p.rows, kRowsPerBlock), kBlock, 0, native(stream)>>>(p);
  check_launch("layer_norm_backward");
  add_norm_gradients(stream, p.rows, p.channels, p.x, p.mean, p.rstd, p.grad_y, p.grad_weight, p.grad_bias);
}

QM_INSTANTIATE_CUDA(layer_norm_forward, LayerNormForward)
QM_INSTANTIATE_CUDA(layer_norm_backward, LayerNormBackward)

}  // namespace qm::cuda
