// Two orders of a map, row-major and column-major, each scanned forwards and backwards (kernels/cuda/core_scan.cuh).
// The second order's launch adds to what the first one's has written, so z and grad_x are summed in a fixed order.
#include "kernels/cross_scan.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/core_scan.cuh"

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

}  // namespace

template <class T>
void cross_scan_forward(const Stream& stream, const CrossScanForward<T>& p) {
  if (p.shape.batch == 0) return;
  core_scan_forward(stream, inputs_of<T>(p), walks(p.shape, p.z));
}

template <class T>
void cross_scan_backward(const Stream& stream, const CrossScanBackward<T>& p) {
  if (p.shape.batch == 0) return;
  core_scan_backward(stream, inputs_of<T>(p), p.grad_z, p.shape.height * p.shape.width, p.grad_projection,
                     p.grad_weights, walks(p.shape, p.grad_x));
}

QM_INSTANTIATE_CUDA(cross_scan_forward, CrossScanForward)
QM_INSTANTIATE_CUDA(cross_scan_backward, CrossScanBackward)

}  // namespace qm::cuda
