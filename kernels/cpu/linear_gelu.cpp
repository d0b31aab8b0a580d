#include "kernels/linear_gelu.h"

#include "kernels/base/dispatch.h"
#include "kernels/bias_gelu.h"
#include "kernels/linear.h"

namespace qm::cpu {

template <class T>
void linear_gelu_forward(const LinearGeluForward<T>& p) {
  T* const pre = p.pre ? p.pre : p.y;
  cpu::linear_forward(LinearForward<T>{.rows = p.rows, .in = p.in, .out = p.out, .x = p.x, .weight = p.weight,
                                       .bias = nullptr, .y = pre});
  cpu::bias_gelu_forward(BiasGeluForward<T>{.rows = p.rows, .channels = p.out, .x = pre, .bias = p.bias, .y = p.y});
}

template <class T>
void gelu_linear_backward(const GeluLinearBackward<T>& p) {
  // grad_pre holds the gradient of what comes out of the GELU first.
  cpu::linear_backward(LinearBackward<T>{.rows = p.rows, .in = p.in, .out = p.out, .x = nullptr, .weight = p.weight,
                                         .grad_y = p.grad_y, .grad_x = p.grad_pre, .grad_x_adds = false,
                                         .grad_weight = nullptr, .grad_bias = nullptr});
  cpu::bias_gelu_backward(BiasGeluBackward<T>{.rows = p.rows, .channels = p.in, .x = p.pre, .bias = p.bias,
                                              .grad_y = p.grad_pre, .grad_x = p.grad_pre, .grad_bias = p.grad_bias});
}

QM_INSTANTIATE_CPU(linear_gelu_forward, LinearGeluForward)
QM_INSTANTIATE_CPU(gelu_linear_backward, GeluLinearBackward)

}  // namespace qm::cpu
