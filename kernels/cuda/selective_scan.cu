// The general selective scan: K directions that all run forwards, each with its own u, Δ, B and C, over the passes of
// kernels/cuda/scan_core.cuh. Sums over all channels (∂B, ∂C) and over all tokens (∂A, ∂D, ∂delta_bias) go by way of a
// sum a block and a second pass that adds those in order.
#include "kernels/selective_scan.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/scan_core.cuh"

namespace qm::cuda {
namespace {

/// Sums a block of tokens and direction: (A (K, N, D) | D (K, D) | delta_bias (K, D)).
struct ParameterSums {
  float *A, *D, *delta_bias;

  QM_HOST_DEVICE static std::int64_t width(const SelectiveScanShape& s) {
    return s.directions * s.channels * (s.states + 2);
  }

  __device__ __forceinline__ ParameterSums(const SelectiveScanShape& s, float* row)
      : A(row), D(A + s.directions * s.states * s.channels), delta_bias(D + s.directions * s.channels) {}
};

// A_packed[k][n][d] = A[k][d][n]. Grid (K · N · D / kBlock rounded up), a thread an element.
//   A (K · D, N); A_packed (K, N, D)
__global__ void pack_A_kernel(SelectiveScanShape s, const float* A, float* A_packed) {
  const std::int64_t i = global_thread();
  if (i >= s.directions * s.states * s.channels) return;
  const std::int64_t k = i / (s.states * s.channels), n = i / s.channels % s.states, d = i % s.channels;
  A_packed[i] = A[(k * s.channels + d) * s.states + n];
}

// Adds ParameterSums to the gradients; null destinations are skipped. Grid (width / kBlock rounded up), a thread a sum.
//   sums (width); grad_A (K · D, N), grad_D and grad_delta_bias (K · D)
__global__ void add_parameter_gradients_kernel(SelectiveScanShape s, const float* sums, float* grad_A, float* grad_D,
                                               float* grad_delta_bias) {
  const std::int64_t i = global_thread(), width = ParameterSums::width(s);
  if (i >= width) return;
  const float sum = sums[i];
  const std::int64_t rows = s.directions * s.channels;
  if (i < rows * s.states) {
    const std::int64_t k = i / (s.states * s.channels), n = i / s.channels % s.states, d = i % s.channels;
    if (grad_A) grad_A[(k * s.channels + d) * s.states + n] += sum;
  } else if (i < rows * (s.states + 1)) {
    if (grad_D) grad_D[i - rows * s.states] += sum;
  } else {
    if (grad_delta_bias) grad_delta_bias[i - rows * (s.states + 1)] += sum;
  }
}

template <class T>
struct SelectiveScan {
  ScanSizes sizes;
  SelectiveScanShape shape;
  const T *u, *delta;           ///< (batch, length, K, D)
  const T *B, *C;               ///< (batch, length, K, N)
  const T* grad_y;              ///< (batch, length, K, D); null in a forward pass
  const float* A;               ///< (K, N, D)
  const float *D, *delta_bias;  ///< (K, D)
  Boundaries boundaries;        ///< (batch, K, tiles, N, D)
};

/// A block's view of the scan, and its thread's channel of it. Direction: blockIdx.z.
template <class T>
struct SelectiveBlock : ScanBlock {
  const SelectiveScan<T>& p;
  int k = static_cast<int>(blockIdx.z);

  __device__ __forceinline__ explicit SelectiveBlock(const SelectiveScan<T>& scan) : ScanBlock(scan.sizes), p(scan) {}

  /// Row of a token in (batch, length, K, …).
  __device__ __forceinline__ std::int64_t row(int tile, int t) const {
    return (image * sizes.length + position(tile, t)) * sizes.directions + k;
  }
  /// The thread's channel in (K, rows, D), from direction k's first row on.
  __device__ __forceinline__ std::int64_t parameter_at(int rows) const {
    return static_cast<std::int64_t>(k) * rows * sizes.channels + channel;
  }

  /// The thread's channel of a tile of u, delta or grad_y; 0 beyond the end.
  __device__ __forceinline__ void load(const T* x, int tile, float (&column)[kTile]) const {
    const int inside = active ? valid(tile) : 0;
#pragma unroll
    for (int t = 0; t < kTile; ++t) {
      column[t] = t < inside ? to_real(x[row(tile, t) * sizes.channels + channel]) : 0.0f;
    }
  }
  __device__ __forceinline__ void store(const float (&column)[kTile], int tile, T* x) const {
    const int inside = active ? valid(tile) : 0;
#pragma unroll
    for (int t = 0; t < kTile; ++t) {
      if (t < inside) x[row(tile, t) * sizes.channels + channel] = from_real<T>(column[t]);
    }
  }
  __device__ __forceinline__ void load_delta(int tile, float (&delta)[kTile]) const {
    load(p.delta, tile, delta);
    const int inside = active ? valid(tile) : 0;
    const float bias = active ? p.delta_bias[parameter_at(1)] : 0.0f;
#pragma unroll
    for (int t = 0; t < kTile; ++t) delta[t] = t < inside ? softplus(delta[t] + bias) : 0.0f;
  }

  /// Reads B or C of a token; 0 beyond the end.
  __device__ __forceinline__ auto states_of(const T* x, int tile) const {
    return [this, x, tile, inside = valid(tile)](int t, int n) {
      return t < inside ? to_real(x[row(tile, t) * sizes.states + n]) : 0.0f;
    };
  }
  __device__ __forceinline__ const float* A() const {
    return p.A + parameter_at(sizes.states);
  }
  __device__ __forceinline__ float skip() const {
    return active ? p.D[parameter_at(1)] : 0.0f;
  }
};

// What crosses the ends of every tile, each on its own; E only where kWithCarry.
// Grid (batch · chunks, channel blocks, K), block (channels of the block, rounded up to warps).
//   all buffers: as in SelectiveScan
template <bool kWithCarry, class T>
__global__ void __launch_bounds__(kScanThreads) selective_boundaries_kernel(SelectiveScan<T> p) {
  __shared__ Slab slab;
  const SelectiveBlock<T> block(p);
  for (int tile = 0; tile < block.tiles(); ++tile) {
    float u[kTile], delta[kTile], grad_y[kTile] = {};
    block.load(p.u, tile, u);
    block.load_delta(tile, delta);
    if constexpr (kWithCarry) block.load(p.grad_y, tile, grad_y);
    states_boundary<false, kWithCarry>(block, slab, block.A(), u, delta, grad_y, block.states_of(p.B, tile),
                                       block.states_of(p.C, tile), block.boundaries(p.boundaries, block.k, tile));
  }
}

// Grid and block as selective_boundaries_kernel.
//   out (batch, length, K, D): y; the rest as in SelectiveScan
template <class T>
__global__ void __launch_bounds__(kScanThreads) selective_forward_kernel(SelectiveScan<T> p, T* out) {
  __shared__ Slab slab;
  const SelectiveBlock<T> block(p);
  const float skip = block.skip();
  for (int tile = 0; tile < block.tiles(); ++tile) {
    float u[kTile], delta[kTile], y[kTile];
    block.load(p.u, tile, u);
    block.load_delta(tile, delta);
#pragma unroll
    for (int t = 0; t < kTile; ++t) y[t] = skip * u[t];
    states_forward<false>(block, slab, block.A(), block.boundaries(p.boundaries, block.k, tile).state, u, delta,
                          block.states_of(p.B, tile), block.states_of(p.C, tile), y);
    block.store(y, tile, out);
  }
}

template <class T>
struct SelectiveGradients {
  T *u, *delta;       ///< (batch, length, K, D)
  float *B, *C;       ///< (channel blocks, batch, length, K, N)
  float* parameters;  ///< (batch, chunks, ParameterSums::width)
};

/// Takes sums over the block's channels: rows (channel blocks, batch, length, K, N).
template <class T>
__device__ __forceinline__ auto store_states(const SelectiveBlock<T>& block, int tile, float* rows) {
  const ScanSizes& s = block.sizes;
  return [&block, tile, to = rows + blockIdx.y * s.sequences() * s.length * s.states](int t, int n, float sum) {
    to[block.row(tile, t) * block.sizes.states + n] = sum;
  };
}

// All gradients but for sums over blocks. Grid and block as selective_boundaries_kernel.
//   grad: as in SelectiveGradients; the rest as in SelectiveScan
template <class T>
__global__ void __launch_bounds__(kScanThreads, kBackwardBlocks)
    selective_backward_kernel(SelectiveScan<T> p, SelectiveGradients<T> grad) {
  __shared__ Slab slab;
  __shared__ ChannelSums sums;
  const SelectiveBlock<T> block(p);
  const ParameterSums parameters(p.shape, grad.parameters + blockIdx.x * ParameterSums::width(p.shape));
  const float skip = block.skip();
  for (int tile = 0; tile < block.tiles(); ++tile) {
    float u[kTile], delta[kTile], grad_y[kTile], grad_u[kTile], grad_delta[kTile] = {};
    block.load(p.u, tile, u);
    block.load_delta(tile, delta);
    block.load(p.grad_y, tile, grad_y);
    float grad_skip = 0, grad_bias = 0;
#pragma unroll
    for (int t = 0; t < kTile; ++t) {
      grad_u[t] = skip * grad_y[t];
      grad_skip += grad_y[t] * u[t];
    }
    states_backward<false>(block, tile, slab, sums, block.A(), block.boundaries(p.boundaries, block.k, tile), u, delta,
                           grad_y, block.states_of(p.B, tile), block.states_of(p.C, tile),
                           store_states(block, tile, grad.B), store_states(block, tile, grad.C), grad_u, grad_delta,
                           parameters.A + block.parameter_at(block.sizes.states));
#pragma unroll
    for (int t = 0; t < kTile; ++t) {
      grad_delta[t] *= softplus_gradient(delta[t]);
      grad_bias += grad_delta[t];
    }
    block.store(grad_u, tile, grad.u);
    block.store(grad_delta, tile, grad.delta);
    if (block.active) {
      accumulate(parameters.D + block.parameter_at(1), grad_skip, tile);
      accumulate(parameters.delta_bias + block.parameter_at(1), grad_bias, tile);
    }
  }
}

// ---- launchers ------------------------------------------------------------------------------------------------------

ScanSizes sizes_of(const SelectiveScanShape& s) {
  return {s.batch, s.length, s.directions, s.channels, s.states};
}

/// A with channels contiguous, for the launches of one call.
class PackedAScratch {
 public:
  PackedAScratch(const Stream& stream, const SelectiveScanShape& s, const float* A)
      : packed_(stream, s.directions * s.states * s.channels) {
    pack_A_kernel<<<blocks_for(s.directions * s.states * s.channels), kBlock, 0, native(stream)>>>(s, A,
                                                                                                   packed_.data());
    check_launch("pack_A");
  }
  const float* data() const { return packed_.data(); }

 private:
  Scratch<float> packed_;
};

/// From the parameters of forward or backward.
template <class T, class Params>
SelectiveScan<T> scan_of(const Params& p, const T* grad_y, const PackedAScratch& A, const BoundaryScratch& boundaries) {
  return {sizes_of(p.shape), p.shape, p.u, p.delta, p.B, p.C, grad_y, A.data(), p.D, p.delta_bias, boundaries.all()};
}

/// Passes 1 and 2.
template <class T>
void find_boundaries(const Stream& stream, const SelectiveScan<T>& scan) {
  const ScanSizes& s = scan.sizes;
  if (scan.grad_y) {
    selective_boundaries_kernel<true><<<s.grid(s.directions), s.threads, 0, native(stream)>>>(scan);
  } else {
    selective_boundaries_kernel<false><<<s.grid(s.directions), s.threads, 0, native(stream)>>>(scan);
  }
  check_launch("selective_boundaries");
  combine_tiles(stream, s, s.directions, scan.boundaries);
}

}  // namespace

template <class T>
void selective_scan_forward(const Stream& stream, const SelectiveScanForward<T>& p) {
  if (p.shape.batch == 0) return;
  const ScanSizes s = sizes_of(p.shape);
  const PackedAScratch A(stream, p.shape, p.A);
  const BoundaryScratch boundaries(stream, s, false);
  const SelectiveScan<T> scan = scan_of<T>(p, nullptr, A, boundaries);
  find_boundaries(stream, scan);
  selective_forward_kernel<<<s.grid(s.directions), s.threads, 0, native(stream)>>>(scan, p.y);
  check_launch("selective_forward");
}

template <class T>
void selective_scan_backward(const Stream& stream, const SelectiveScanBackward<T>& p) {
  if (p.shape.batch == 0) return;
  const ScanSizes s = sizes_of(p.shape);
  const PackedAScratch A(stream, p.shape, p.A);
  const BoundaryScratch boundaries(stream, s, true);
  const SelectiveScan<T> scan = scan_of<T>(p, p.grad_y, A, boundaries);
  find_boundaries(stream, scan);

  const std::int64_t states = s.sequences() * s.length * s.states;
  const std::int64_t rows = s.batch * s.chunks, width = ParameterSums::width(p.shape);
  const Scratch<float> grad_B(stream, s.channel_blocks * states), grad_C(stream, s.channel_blocks * states);
  const Scratch<float> parameters(stream, rows * width);
  selective_backward_kernel<<<s.grid(s.directions), s.threads, 0, native(stream)>>>(
      scan, SelectiveGradients<T>{p.grad_u, p.grad_delta, grad_B.data(), grad_C.data(), parameters.data()});
  check_launch("selective_backward");
  sum_channel_blocks(stream, s.channel_blocks, states, grad_B.data(), p.grad_B);
  sum_channel_blocks(stream, s.channel_blocks, states, grad_C.data(), p.grad_C);
  const TokenBlockSum sums(stream, rows, width, parameters.data());
  add_parameter_gradients_kernel<<<blocks_for(width), kBlock, 0, native(stream)>>>(p.shape, sums.data(), p.grad_A,
                                                                                   p.grad_D, p.grad_delta_bias);
  check_launch("add_parameter_gradients");
}

QM_INSTANTIATE_CUDA(selective_scan_forward, SelectiveScanForward)
QM_INSTANTIATE_CUDA(selective_scan_backward, SelectiveScanBackward)

}  // namespace qm::cuda
