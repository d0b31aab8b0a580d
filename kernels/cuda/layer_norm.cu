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
  for (std::int64_t c = threadIdx.x % kWarp; c < p.channels; c += kWarp) {
    const Real<T> before = p.grad_x_adds ? to_real(p.grad_x[at + c]) : Real<T>(0);
    p.grad_x[at + c] = from_real<T>(before + grad.at(c));
  }
}

// ---- rows in registers ----------------------------------------------------------------------------------------------

// Grid (chunks of rows); a group of lanes a row, by Layout: as above.
template <class Layout, class T>
__global__ void __launch_bounds__(kBlock, Layout::kForwardBlocks)
    layer_norm_forward_slice_kernel(LayerNormForward<T> p, std::int64_t chunk_rows) {
  const int channels = static_cast<int>(p.channels);
  ChunkRows<Layout> at(p.rows, chunk_rows);
  typename Layout::template Share<T> coming;
  Layout::load(at.width(channels), p.x + at.row * channels, coming);
  typename Layout::template Share<float> weight, bias;
  Layout::load(channels, p.weight, weight);
  Layout::load(channels, p.bias, bias);
  for (int step = 0; step < at.steps; ++step, at.next()) {
    typename Layout::template Share<T> x;
#pragma unroll
    for (int k = 0; k < Layout::K; ++k) x[k] = coming[k];
    Layout::load(at.width(channels, 1), p.x + (at.row + Layout::kGroups) * channels, coming);
    write_normalized<Layout>(at.width(channels), channels, at.row, x, weight, bias, p.y, p.mean, p.rstd);
  }
}

// grad_x, and the first stage of the sums over rows. Grid (chunks of rows); a group of lanes a row, by Layout: as above;
// partial_weight, partial_bias (chunks, channels).
template <class Layout, class T>
__global__ void __launch_bounds__(kBlock, Layout::kBackwardBlocks)
    layer_norm_backward_slice_kernel(LayerNormBackward<T> p, std::int64_t chunk_rows, float* partial_weight,
                                     float* partial_bias) {
  const int channels = static_cast<int>(p.channels);
  ChunkRows<Layout> at(p.rows, chunk_rows);
  BackwardRow<Layout, T> coming;
  coming.load(at.width(channels), channels, at.row, p.x, p.grad_y, p.mean, p.rstd);
  typename Layout::template Share<float> weight;
  Layout::load(channels, p.weight, weight);
  typename Layout::Sums sum_weight = {}, sum_bias = {};
  for (int step = 0; step < at.steps; ++step, at.next()) {
    const BackwardRow<Layout, T> row = coming;
    T* const grad_x = p.grad_x + at.row * channels;
    typename Layout::template Share<T> before;
    Layout::load(p.grad_x_adds ? at.width(channels) : 0, grad_x, before);
    coming.load(at.width(channels, 1), channels, at.row + Layout::kGroups, p.x, p.grad_y, p.mean, p.rstd);
    const SliceGradient<Layout, T> grad(channels, weight, row, sum_weight, sum_bias);
    Layout::store(at.width(channels), grad_x, [&](int k, int i) { return before[k][i] + grad.at(k, i); });
  }
  store_group_sums<Layout>(channels, sum_weight, partial_weight + blockIdx.x * p.channels);
  store_group_sums<Layout>(channels, sum_bias, partial_bias + blockIdx.x * p.channels);
}

}  // namespace

template <class T>
void layer_norm_forward(const Stream& stream, const LayerNormForward<T>& p) {
  if (p.rows == 0) return;
  const bool in_registers =
      vectors_fit<8>(8, p.x, p.y) && vectors_fit<4>(4, p.weight, p.bias) &&
      with_slice_layout(p.channels, [&]<class Layout>() {
        constexpr int kChunkRows = Layout::kGroups * kForwardSteps;
        layer_norm_forward_slice_kernel<Layout><<<blocks_for(p.rows, kChunkRows), kBlock, 0, native(stream)>>>(
            p, kChunkRows);
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
      vectors_fit<8>(8, p.x, p.grad_y, p.grad_x) && vectors_fit<4>(4, p.weight) &&
      with_slice_layout(p.channels, [&]<class Layout>() {
        const NormGradientSums sums(stream, p.rows, p.channels);
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
