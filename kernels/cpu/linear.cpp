#include "kernels/linear.h"

#include "kernels/base/dispatch.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/parallel.h"

namespace qm::cpu {

template <class T>
void linear_forward(const LinearForward<T>& p) {
  // The bias goes in first and the product is added to it: one pass less over y.
  if (p.bias) {
#pragma omp parallel for schedule(static)
    for (std::int64_t row = 0; row < p.rows; ++row) std::copy(p.bias, p.bias + p.out, p.y + row * p.out);
  }
  gemm<T>(false, true, p.rows, p.out, p.in, T(1), p.x, p.in, p.weight, p.in, p.bias ? T(1) : T(0), p.y, p.out);
}

template <class T>
void linear_backward(const LinearBackward<T>& p) {
  if (p.grad_x) {
    gemm<T>(false, false, p.rows, p.in, p.out, T(1), p.grad_y, p.out, p.weight, p.in,
            p.grad_x_adds ? T(1) : T(0), p.grad_x, p.in);
  }
  if (p.grad_weight) {
    gemm<T>(true, false, p.out, p.in, p.rows, T(1), p.grad_y, p.out, p.x, p.in, T(1), p.grad_weight, p.in);
  }
  if (p.grad_bias) {
    accumulate_over_rows(p.rows, p.out, p.grad_bias, [&](std::int64_t first, std::int64_t last, T* sum) {
      for (std::int64_t row = first; row < last; ++row) {
        const T* grad_y = p.grad_y + row * p.out;
#pragma omp simd
        for (std::int64_t o = 0; o < p.out; ++o) sum[o] += grad_y[o];
      }
    });
  }
}

QM_INSTANTIATE_CPU(linear_forward, LinearForward)
QM_INSTANTIATE_CPU(linear_backward, LinearBackward)

}  // namespace qm::cpu
