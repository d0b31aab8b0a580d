#include "kernels/selective_scan.h"

#include <algorithm>

#include "kernels/base/dispatch.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scan_core.h"

namespace qm::cpu {
namespace {

/// (rows, columns) → (columns, rows)
template <class T>
std::vector<T> transpose(const T* x, std::int64_t rows, std::int64_t columns) {
  std::vector<T> y(static_cast<std::size_t>(rows * columns));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) y[c * rows + r] = x[r * columns + c];
  }
  return y;
}

/// Fills step l of image b and direction k from the tensors of forward or backward.
template <class T, class Params>
auto loader(const Params& p, std::int64_t b, std::int64_t k) {
  return [&p, b, k](std::int64_t l, ScanToken<T>& token) {
    const SelectiveScanShape& s = p.shape;
    const std::int64_t at = (b * s.length + l) * s.directions + k;
    std::copy_n(p.u + at * s.channels, s.channels, token.u.data());
    for (std::int64_t d = 0; d < s.channels; ++d) {
      token.dt[d] = p.delta[at * s.channels + d] + p.delta_bias[k * s.channels + d];
    }
    std::copy_n(p.B + at * s.states, s.states, token.B.data());
    std::copy_n(p.C + at * s.states, s.states, token.C.data());
  };
}

}  // namespace

template <class T>
void selective_scan_forward(const SelectiveScanForward<T>& p) {
  const SelectiveScanShape& s = p.shape;
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t k = 0; k < s.directions; ++k) {
      const std::vector<T> A = transpose(p.A + k * s.channels * s.states, s.channels, s.states);
      const ScanDirection<T> scan{s.length, s.channels, s.states, A.data(), p.D + k * s.channels};
      scan_forward<T>(scan, loader<T>(p, b, k), [&](std::int64_t l, const T* y) {
        std::copy_n(y, s.channels, p.y + ((b * s.length + l) * s.directions + k) * s.channels);
      });
    }
  }
}

template <class T>
void selective_scan_backward(const SelectiveScanBackward<T>& p) {
  const SelectiveScanShape& s = p.shape;
  const std::int64_t rows = s.directions * s.channels;
  // One image's sums: grad_A as (K, N, D), then grad_D and grad_delta_bias (K · D each).
  const std::int64_t width = rows * (s.states + 2);
  std::vector<T> sums(static_cast<std::size_t>(width), T(0));
  accumulate_over_images(s.batch, width, sums.data(), [&](std::int64_t first, std::int64_t last, T* partial) {
    for (std::int64_t b = first; b < last; ++b) {
      for (std::int64_t k = 0; k < s.directions; ++k) {
        const std::vector<T> A = transpose(p.A + k * s.channels * s.states, s.channels, s.states);
        const ScanDirection<T> scan{s.length, s.channels, s.states, A.data(), p.D + k * s.channels};
        T* grad_A = partial + k * s.states * s.channels;
        T* grad_D = partial + rows * s.states + k * s.channels;
        T* grad_bias = partial + rows * (s.states + 1) + k * s.channels;
        const auto at = [&](std::int64_t l) { return (b * s.length + l) * s.directions + k; };
        scan_backward<T>(
            scan, loader<T>(p, b, k),
            [&](std::int64_t l, T* grad_y) { std::copy_n(p.grad_y + at(l) * s.channels, s.channels, grad_y); },
            [&](std::int64_t l, ScanTokenGradient<T>& grad) {
              std::copy_n(grad.u.data(), s.channels, p.grad_u + at(l) * s.channels);
              std::copy_n(grad.dt.data(), s.channels, p.grad_delta + at(l) * s.channels);
              std::copy_n(grad.B.data(), s.states, p.grad_B + at(l) * s.states);
              std::copy_n(grad.C.data(), s.states, p.grad_C + at(l) * s.states);
              for (std::int64_t d = 0; d < s.channels; ++d) grad_bias[d] += grad.dt[d];
            },
            grad_A, grad_D);
      }
    }
  });
  for (std::int64_t k = 0; k < s.directions; ++k) {
    for (std::int64_t d = 0; d < s.channels; ++d) {
      const std::int64_t row = k * s.channels + d;
      for (std::int64_t n = 0; n < s.states; ++n) {
        if (p.grad_A) p.grad_A[row * s.states + n] += sums[(k * s.states + n) * s.channels + d];
      }
      if (p.grad_D) p.grad_D[row] += sums[rows * s.states + row];
      if (p.grad_delta_bias) p.grad_delta_bias[row] += sums[rows * (s.states + 1) + row];
    }
  }
}

QM_INSTANTIATE_CPU(selective_scan_forward, SelectiveScanForward)
QM_INSTANTIATE_CPU(selective_scan_backward, SelectiveScanBackward)

}  // namespace qm::cpu
