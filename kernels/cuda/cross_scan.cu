// Two orders of a map, row-major and column-major, each scanned forwards and backwards (kernels/cuda/core_scan.cuh).
// The second order's launch adds to what the first one's has written, so z and grad_x are summed in a fixed order.
#include "kernels/cross_scan.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/core_scan.cuh"
#include "kernels/cuda/core_sweep_backward.cuh"
#include "kernels/cuda/core_sweep_forward.cuh"

namespace qm::cuda {
namespace {

/// `out` (batch, height, width, D) is z in the forward pass and grad_x in backward.
template <class T>
struct CrossWalk {
  static constexpr int kTokens = 1;

  std::int64_t height, width, channels;
  int order;  ///< 0 row-major, 1 column-major
  T* out;

  __device__ __forceinline__ Place<1> place(std::int64_t, int position) const {
    const int token = static_cast<int>(cross_token(height, width, order, position));
    return {{token}, {token}};
  }

  __device__ __forceinline__ void store(std::int64_t image, const Place<1>& place, int d, float value) const {
    T* at = out + (image * height * width + place.token[0]) * channels + d;
    *at = from_real<T>(order == 0 ? value : to_real(*at) + value);
  }

  __device__ __forceinline__ void store_output(std::int64_t image, int, const Place<1>& place, int d, float y) const {
    store(image, place, d, y);
  }
  __device__ __forceinline__ void store_grad_u(std::int64_t image, int, const Place<1>& place, int d,
                                               float grad_u) const {
    store(image, place, d, grad_u);
  }
  __device__ __forceinline__ std::int64_t gradient_row(std::int64_t image, int, const Place<1>& place) const {
    return image * height * width + place.token[0];
  }
};

template <class T, class Params>
CoreInputs<T> inputs_of(const Params& p) {
  const CrossScanShape& s = p.shape;
  return {s.scan, s.batch, s.height * s.width, p.x, p.projection, p.weights};
}

template <class T>
auto walks(const CrossScanShape& s, T* out) {
  return [s, out](int order) { return CrossWalk<T>{s.height, s.width, s.scan.channels, order, out}; };
}

// ---- sweeps ---------------------------------------------------------------------------------------------------------

// The token at every position of both orders. A thread a position: tokens (2, length).
__global__ void cross_tokens_kernel(std::int64_t height, std::int64_t width, int* tokens) {
  const std::int64_t i = global_thread(), length = height * width;
  if (i >= 2 * length) return;
  tokens[i] = static_cast<int>(cross_token(height, width, static_cast<int>(i / length), i % length));
}

class CrossTokens {
 public:
  CrossTokens(const Stream& stream, const CrossScanShape& s)
      : length_(s.height * s.width), tokens_(stream, 2 * length_) {
    cross_tokens_kernel<<<blocks_for(2 * length_), kBlock, 0, native(stream)>>>(s.height, s.width, tokens_.data());
    check_launch("cross_tokens");
  }
  SweepOrder order(int index) const { return {tokens_.data() + index * length_, nullptr, 0}; }

 private:
  std::int64_t length_;
  Scratch<int> tokens_;
};

/// The second order adds to what the first has left.
template <class Params>
Sweep sweep_of(const Params& p, const CrossTokens& tokens, int order) {
  const CrossScanShape& s = p.shape;
  const int length = static_cast<int>(s.height * s.width);
  return {.batch = static_cast<int>(s.batch),
          .length = length,
          .tiles = sweep_tiles(length),
          .channels = static_cast<int>(s.scan.channels),
          .rank = static_cast<int>(s.scan.rank),
          .directions = 4,
          .along = {order, order + 2},
          .order = tokens.order(order),
          .plain = true,
          .x = p.x,
          .projection = p.projection,
          .weights = p.weights,
          .states = const_cast<float*>(p.states),
          .adds = order > 0,
          .warps = 0,
          .width = static_cast<int>(s.width),
          .out_height = static_cast<int>(s.height),
          .out_width = static_cast<int>(s.width)};
}

void cross_sweep_forward(const Stream& stream, const CrossScanForward<bfloat16>& p) {
  const CrossTokens tokens(stream, p.shape);
  for (int order = 0; order < 2; ++order) sweep_forward(stream, {sweep_of(p, tokens, order), p.z});
}

void cross_sweep_backward(const Stream& stream, const CrossScanBackward<bfloat16>& p) {
  const CrossTokens tokens(stream, p.shape);
  sweep_backward(
      stream, p.shape.scan, 2, p.grad_z, {p.grad_x, p.grad_projection, nullptr}, p.grad_weights,
      [&](int order) { return sweep_of(p, tokens, order); }, [](int) { return SweepComparisons{}; });
}

}  // namespace

ScanSaved cross_scan_saved_bf16(const CrossScanShape& s) {
  return {.states = sweeps(s.scan, s.batch, s.height * s.width) ? sweep_states(s.scan, s.batch, s.height * s.width) : 0};
}

template <class T>
void cross_scan_forward(const Stream& stream, const CrossScanForward<T>& p) {
  if (p.shape.batch == 0) return;
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (sweeps(p.shape.scan, p.shape.batch, p.shape.height * p.shape.width)) return cross_sweep_forward(stream, p);
  }
  core_scan_forward(stream, inputs_of<T>(p), walks(p.shape, p.z));
}

template <class T>
void cross_scan_backward(const Stream& stream, const CrossScanBackward<T>& p) {
  if (p.shape.batch == 0) return;
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (sweeps(p.shape.scan, p.shape.batch, p.shape.height * p.shape.width)) return cross_sweep_backward(stream, p);
  }
  core_scan_backward(stream, inputs_of<T>(p), p.grad_z, p.shape.height * p.shape.width, p.grad_projection,
                     p.grad_weights, walks(p.shape, p.grad_x));
}

QM_INSTANTIATE_CUDA(cross_scan_forward, CrossScanForward)
QM_INSTANTIATE_CUDA(cross_scan_backward, CrossScanBackward)

}  // namespace qm::cuda
