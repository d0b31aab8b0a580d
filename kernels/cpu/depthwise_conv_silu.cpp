#include "kernels/depthwise_conv_silu.h"

#include <cmath>

#include "kernels/base/dispatch.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace qm::cpu {
namespace {

/// (channels, 1, 3, 3) → (9, channels): a tap's weights side by side.
template <class T>
std::vector<T> tap_major(std::int64_t channels, const T* weight) {
  std::vector<T> taps(static_cast<std::size_t>(9 * channels));
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t k = 0; k < 9; ++k) taps[k * channels + c] = weight[c * 9 + k];
  }
  return taps;
}

/// Calls visit(tap, pixel) for the taps of pixel (i, j) that lie inside the map; `pixel` counts within the image.
template <class Visit>
void for_each_neighbour(const DepthwiseShape& s, std::int64_t i, std::int64_t j, Visit visit) {
  for (std::int64_t tap = 0; tap < 9; ++tap) {
    const std::int64_t y = i + tap / 3 - 1;
    const std::int64_t x = j + tap % 3 - 1;
    if (y >= 0 && y < s.height && x >= 0 && x < s.width) visit(tap, y * s.width + x);
  }
}

template <class T>
void convolve_pixel(const DepthwiseShape& s, const T* image, const T* taps, std::int64_t i, std::int64_t j, T* v) {
  std::fill(v, v + s.channels, T(0));
  for_each_neighbour(s, i, j, [&](std::int64_t tap, std::int64_t pixel) {
    const T* w = taps + tap * s.channels;
    const T* x = image + pixel * s.channels;
#pragma omp simd
    for (std::int64_t c = 0; c < s.channels; ++c) v[c] += w[c] * x[c];
  });
}

template <class T>
inline T sigmoid(T v) {
  return T(1) / (T(1) + std::exp(-v));
}

}  // namespace

template <class T>
void depthwise_conv_silu_forward(const DepthwiseConvSiluForward<T>& p) {
  const DepthwiseShape& s = p.shape;
  const std::vector<T> taps = tap_major(s.channels, p.weight);
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < s.batch * s.out_height; ++row) {
    const std::int64_t b = row / s.out_height;
    const std::int64_t i = row % s.out_height;
    const T* image = p.x + b * s.height * s.width * s.channels;
    for (std::int64_t j = 0; j < s.out_width; ++j) {
      T* y = p.y + (row * s.out_width + j) * s.channels;
      if (i >= s.height || j >= s.width) {
        std::fill(y, y + s.channels, T(0));
        continue;
      }
      convolve_pixel(s, image, taps.data(), i, j, y);
#pragma omp simd
      for (std::int64_t c = 0; c < s.channels; ++c) y[c] *= sigmoid(y[c]);
    }
  }
}

template <class T>
void depthwise_conv_silu_backward(const DepthwiseConvSiluBackward<T>& p) {
  const DepthwiseShape& s = p.shape;
  const std::vector<T> taps = tap_major(s.channels, p.weight);
  const std::int64_t image_size = s.height * s.width * s.channels;
  std::vector<T> grad_taps(taps.size(), T(0));

  const auto backward_images = [&](std::int64_t first, std::int64_t last, T* partial) {
    std::vector<T> grad_v(static_cast<std::size_t>(s.channels));
    for (std::int64_t b = first; b < last; ++b) {
      const T* image = p.x + b * image_size;
      T* grad_image = p.grad_x + b * image_size;
      std::fill(grad_image, grad_image + image_size, T(0));
      for (std::int64_t i = 0; i < s.height; ++i) {
        for (std::int64_t j = 0; j < s.width; ++j) {
          const T* grad_y = p.grad_y + ((b * s.out_height + i) * s.out_width + j) * s.channels;
          convolve_pixel(s, image, taps.data(), i, j, grad_v.data());
#pragma omp simd
          for (std::int64_t c = 0; c < s.channels; ++c) {
            const T gate = sigmoid(grad_v[c]);
            grad_v[c] = grad_y[c] * gate * (T(1) + grad_v[c] * (T(1) - gate));
          }
          for_each_neighbour(s, i, j, [&](std::int64_t tap, std::int64_t pixel) {
            const T* w = taps.data() + tap * s.channels;
            const T* x = image + pixel * s.channels;
            T* grad_x = grad_image + pixel * s.channels;
            T* grad_w = partial + tap * s.channels;
#pragma omp simd
            for (std::int64_t c = 0; c < s.channels; ++c) {
              grad_x[c] += grad_v[c] * w[c];
              grad_w[c] += grad_v[c] * x[c];
            }
          });
        }
      }
    }
  };
  accumulate_over_images(s.batch, 9 * s.channels, grad_taps.data(), backward_images);

  if (!p.grad_weight) return;
  for (std::int64_t c = 0; c < s.channels; ++c) {
    for (std::int64_t k = 0; k < 9; ++k) p.grad_weight[c * 9 + k] += grad_taps[k * s.channels + c];
  }
}

QM_INSTANTIATE_CPU(depthwise_conv_silu_forward, DepthwiseConvSiluForward)
QM_INSTANTIATE_CPU(depthwise_conv_silu_backward, DepthwiseConvSiluBackward)

}  // namespace qm::cpu
