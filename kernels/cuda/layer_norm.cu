#include "kernels/layer_norm.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/layer_norm_row.cuh"
#include "kernels/cuda/layer_norm_slice.cuh"

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

// ---- rows in registers ----------------------------------------------------------------------------------------------

// A warp a row, 4 rows a warp: as above.
template <class Layout, class T>
__global__ void layer_norm_forward_slice_kernel(LayerNormForward<T> p) {
  using Values = typename Layout::template Values<Real<T>>;
  const int channels = static_cast<int>(p.channels);
  Values weight, bias;
  Layout::load_parameters(channels, p.weight, weight);
  Layout::load_parameters(channels, p.bias, bias);
  const std::int64_t first = warp_row() * kRowsPerWarp, last = min(p.rows, first + kRowsPerWarp);
  for (std::int64_t row = first; row < last; ++row) {
    Values x;
    Layout::load(channels, p.x + row * channels, x);
    normalize_slice<Layout>(channels, weight, bias, x, p.mean + row, p.rstd + row);
    Layout::store(channels, x, p.y + row * channels);
  }
}

// grad_x, and the first stage of the sums over rows. Grid (chunks of rows), 8 warps a block that take every eighth row:
// as above; partial_weight, partial_bias (chunks, channels).
template <class Layout, class T>
__global__ void layer_norm_backward_slice_kernel(LayerNormBackward<T> p, std::int64_t chunk_rows,
                                                 Real<T>* partial_weight, Real<T>* partial_bias) {
  using Values = typename Layout::template Values<Real<T>>;
  const int channels = static_cast<int>(p.channels);
  Values weight, sum_weight = {}, sum_bias = {};
  Layout::load_parameters(channels, p.weight, weight);
  const std::int64_t first = blockIdx.x * chunk_rows, last = min(p.rows, first + chunk_rows);
  ComingRow<Layout, T> coming;
  const auto fetch = [&](std::int64_t row) {
    if (row < last) coming.fetch(channels, p.x, p.grad_y, p.mean, p.rstd, row);
  };
  fetch(first + threadIdx.x / kWarp);
  for (std::int64_t row = first + threadIdx.x / kWarp; row < last; row += kRowsPerBlock) {
    Values x, grad;
    Layout::take(coming.x, x);
    Layout::take(coming.grad_y, grad);
    const Real<T> mean = coming.mean, rstd = coming.rstd;
    fetch(row + kRowsPerBlock);
    slice_gradient<Layout>(channels, weight, mean, rstd, x, grad, sum_weight, sum_bias);
    Layout::store(channels, grad, p.grad_x + row * channels);
  }
  store_warp_sums<Layout>(channels, sum_weight, partial_weight + blockIdx.x * p.channels);
  store_warp_sums<Layout>(channels, sum_bias, partial_bias + blockIdx.x * p.channels);
}

}  // namespace

template <class T>
void layer_norm_forward(const Stream& stream, const LayerNormForward<T>& p) {
  if (p.rows == 0) return;
  const bool in_registers = vectors_fit<8>(8, p.x, p.y) && with_slice_layout(p.channels, [&]<class Layout>() {
                              layer_norm_forward_slice_kernel<Layout>
                                  <<<blocks_for(p.rows, kRowsPerBlock * kRowsPerWarp), kBlock, 0, native(stream)>>>(p);
                              check_launch("layer_norm_forward");
                            });
  if (in_registers) return;
  layer_norm_forward_kernel<<<blocks_for(p.rows, kRowsPerBlock), kBlock, 0, native(stream)>>>(p);
  check_launch("layer_norm_forward");
}

template <class T>
void layer_norm_backward(const Stream& stream, const LayerNormBackward<T>& p) {
  if (p.rows == 0) return;
  const bool in_registers =
      vectors_fit<8>(8, p.x, p.grad_y, p.grad_x) && with_slice_layout(p.channels, [&]<class Layout>() {
        const NormGradientSums<Real<T>> sums(stream, p.rows, p.channels);
        layer_norm_backward_slice_kernel<Layout><<<sums.blocks(), kBlock, 0, native(stream)>>>(
            p, sums.chunk_rows(), sums.partial_weight(), sums.partial_bias());
        check_launch("layer_norm_backward");
        sums.add_to(p.grad_weight, p.grad_bias);
      });
  if (in_registers) return;
  layer_norm_backward_kernel<<<blocks_for(p.rows, kRowsPerBlock), kBlock, 0, native(stream)>>>(p);
  check_launch("layer_norm_backward");
  add_norm_gradients(stream, p.rows, p.channels, p.x, p.mean, p.rstd, p.grad_y, p.grad_weight, p.grad_bias);
}

QM_INSTANTIATE_CUDA(layer_norm_forward, LayerNormForward)
QM_INSTANTIATE_CUDA(layer_norm_backward, LayerNormBackward)

}  // namespace qm::cuda
