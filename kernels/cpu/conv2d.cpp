#include "kernels/conv2d.h"

#include "kernels/base/dispatch.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/parallel.h"

// Every output pixel's 3×3 window is gathered into a row (ki, kj, c) of a patch matrix, and the convolution becomes a
// matrix product, block by block of output rows so that the patches stay in cache.
namespace qm::cpu {
namespace {

/// Output pixels gathered at once: about a megabyte of patches.
std::int64_t block_rows(const Conv2dShape& s, std::size_t element) {
  return std::max<std::int64_t>(64, (std::int64_t{1} << 20) / static_cast<std::int64_t>(9 * s.in * element));
}

/// (out, in, 3, 3) → (out, 3, 3, in), so that a patch holds a pixel's channels side by side.
template <class T>
std::vector<T> channels_last(const Conv2dShape& s, const T* weight) {
  std::vector<T> packed(static_cast<std::size_t>(s.out * 9 * s.in));
  for (std::int64_t o = 0; o < s.out; ++o) {
    for (std::int64_t c = 0; c < s.in; ++c) {
      for (std::int64_t k = 0; k < 9; ++k) packed[(o * 9 + k) * s.in + c] = weight[(o * s.in + c) * 9 + k];
    }
  }
  return packed;
}

/// Calls visit(tap, pixel) for the nine taps of output pixel `row`; `pixel` is the index of the input pixel or −1
/// outside the map.
template <class Visit>
void for_each_tap(const Conv2dShape& s, std::int64_t row, Visit visit) {
  const std::int64_t j = row % s.out_width();
  const std::int64_t i = row / s.out_width() % s.out_height();
  const std::int64_t b = row / (s.out_width() * s.out_height());
  for (std::int64_t tap = 0; tap < 9; ++tap) {
    const std::int64_t y = i * s.stride + tap / 3 - 1;
    const std::int64_t x = j * s.stride + tap % 3 - 1;
    const bool inside = y >= 0 && y < s.height && x >= 0 && x < s.width;
    visit(tap, inside ? (b * s.height + y) * s.width + x : -1);
  }
}

template <class T>
void gather_patches(const Conv2dShape& s, const T* x, std::int64_t first, std::int64_t last, T* patches) {
#pragma omp parallel for schedule(static)
  for (std::int64_t row = first; row < last; ++row) {
    T* patch = patches + (row - first) * 9 * s.in;
    for_each_tap(s, row, [&](std::int64_t tap, std::int64_t pixel) {
      if (pixel >= 0) {
        std::copy(x + pixel * s.in, x + (pixel + 1) * s.in, patch + tap * s.in);
      } else {
        std::fill(patch + tap * s.in, patch + (tap + 1) * s.in, T(0));
      }
    });
  }
}

template <class T>
void scatter_patches(const Conv2dShape& s, const T* patches, std::int64_t first, std::int64_t last, T* x) {
  for (std::int64_t row = first; row < last; ++row) {
    const T* patch = patches + (row - first) * 9 * s.in;
    for_each_tap(s, row, [&](std::int64_t tap, std::int64_t pixel) {
      if (pixel < 0) return;
#pragma omp simd
      for (std::int64_t c = 0; c < s.in; ++c) x[pixel * s.in + c] += patch[tap * s.in + c];
    });
  }
}

}  // namespace

template <class T>
void conv2d_forward(const Conv2dForward<T>& p) {
  const Conv2dShape& s = p.shape;
  const std::int64_t rows = s.batch * s.out_height() * s.out_width();
  const std::int64_t block = block_rows(s, sizeof(T));
  const std::vector<T> weight = channels_last(s, p.weight);
  std::vector<T> patches(static_cast<std::size_t>(std::min(block, rows) * 9 * s.in));
  for (std::int64_t first = 0; first < rows; first += block) {
    const std::int64_t last = std::min(rows, first + block);
    gather_patches(s, p.x, first, last, patches.data());
    T* y = p.y + first * s.out;
    if (p.bias) {
      for (std::int64_t row = 0; row < last - first; ++row) std::copy(p.bias, p.bias + s.out, y + row * s.out);
    }
    gemm<T>(false, true, last - first, s.out, 9 * s.in, T(1), patches.data(), 9 * s.in, weight.data(), 9 * s.in,
            p.bias ? T(1) : T(0), y, s.out);
  }
}

template <class T>
void conv2d_backward(const Conv2dBackward<T>& p) {
  const Conv2dShape& s = p.shape;
  const std::int64_t rows = s.batch * s.out_height() * s.out_width();
  const std::int64_t block = block_rows(s, sizeof(T));
  const std::vector<T> weight = channels_last(s, p.weight);
  std::vector<T> grad_weight(p.grad_weight ? weight.size() : 0, T(0));
  std::vector<T> patches(static_cast<std::size_t>(std::min(block, rows) * 9 * s.in));
  if (p.grad_x) std::fill(p.grad_x, p.grad_x + s.batch * s.height * s.width * s.in, T(0));

  for (std::int64_t first = 0; first < rows; first += block) {
    const std::int64_t last = std::min(rows, first + block);
    const T* grad_y = p.grad_y + first * s.out;
    if (p.grad_weight) {
      gather_patches(s, p.x, first, last, patches.data());
      gemm<T>(true, false, s.out, 9 * s.in, last - first, T(1), grad_y, s.out, patches.data(), 9 * s.in, T(1),
              grad_weight.data(), 9 * s.in);
    }
    if (p.grad_x) {
      gemm<T>(false, false, last - first, 9 * s.in, s.out, T(1), grad_y, s.out, weight.data(), 9 * s.in, T(0),
              patches.data(), 9 * s.in);
      scatter_patches(s, patches.data(), first, last, p.grad_x);
    }
  }
  if (p.grad_weight) {
    for (std::int64_t o = 0; o < s.out; ++o) {
      for (std::int64_t c = 0; c < s.in; ++c) {
        for (std::int64_t k = 0; k < 9; ++k) {
          p.grad_weight[(o * s.in + c) * 9 + k] += grad_weight[(o * 9 + k) * s.in + c];
        }
      }
    }
  }
  if (p.grad_bias) {
    accumulate_over_rows(rows, s.out, p.grad_bias, [&](std::int64_t first, std::int64_t last, T* sum) {
      for (std::int64_t row = first; row < last; ++row) {
#pragma omp simd
        for (std::int64_t o = 0; o < s.out; ++o) sum[o] += p.grad_y[row * s.out + o];
      }
    });
  }
}

QM_INSTANTIATE_CPU(conv2d_forward, Conv2dForward)
QM_INSTANTIATE_CPU(conv2d_backward, Conv2dBackward)

}  // namespace qm::cpu
