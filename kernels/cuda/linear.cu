#include "kernels/linear.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/matmul.cuh"

// y = x Wᵀ + b,   grad_x = grad_y W or +=,   grad_W += grad_yᵀ x,   grad_b += Σ_rows grad_y
//
//   x, grad_x (rows, in);  W, grad_W (out, in);  b, grad_b (out);  y, grad_y (rows, out)
namespace qm::cuda {

template <class T>
void linear_forward(const Stream& stream, const LinearForward<T>& p) {
  matmul<T>(stream, {.transpose_a = false, .transpose_b = true, .m = p.rows, .n = p.out, .k = p.in, .a = p.x,
                     .b = p.weight, .bias = p.bias}, p.y);
}

template <class T>
void linear_backward(const Stream& stream, const LinearBackward<T>& p) {
  if (p.grad_x) {
    matmul<T>(stream, {.transpose_a = false, .transpose_b = false, .m = p.rows, .n = p.in, .k = p.out, .a = p.grad_y,
                       .b = p.weight, .adds = p.grad_x_adds}, p.grad_x);
  }
  if (p.grad_weight && p.rows > 0) {
    matmul<T>(stream, {.transpose_a = true, .transpose_b = false, .m = p.out, .n = p.in, .k = p.rows, .a = p.grad_y,
                       .b = p.x, .adds = true}, p.grad_weight);
  }
  if (p.grad_bias) add_column_sums(stream, p.rows, p.out, p.grad_y, p.grad_bias);
}

QM_INSTANTIATE_CUDA(linear_forward, LinearForward)
QM_INSTANTIATE_CUDA(linear_backward, LinearBackward)

}  // namespace qm::cuda
