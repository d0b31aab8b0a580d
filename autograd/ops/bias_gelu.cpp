#include "autograd/ops/bias_gelu.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/bias_gelu.h"

namespace qm {

Tensor bias_gelu(const Tensor& x, const Tensor& bias) {
  const CurrentOp op("bias_gelu");
  if (bias.defined()) expect_shape("bias_gelu", "bias", bias, {x.dim(-1)});
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  visit_activation(x.dtype(), "bias_gelu", [&]<class T>() {
    bias_gelu_forward<T>(x.stream(), {.rows = rows_of(x), .channels = x.dim(-1), .x = x.data<T>(),
                                      .bias = data_or_null<Real<T>>(bias), .y = y.data<T>()});
  });

  Tape::record("bias_gelu", {x, bias}, {y}, [=](Backward& grad) {
    visit_activation(x.dtype(), "bias_gelu", [&]<class T>() {
      bias_gelu_backward<T>(x.stream(), {.rows = rows_of(x), .channels = x.dim(-1), .x = x.data<T>(),
                                         .bias = data_or_null<Real<T>>(bias), .grad_y = grad.grad_output(0).data<T>(),
                                         .grad_x = grad.assign(0).data<T>(),
                                         .grad_bias = grad.needs(1) ? grad.accumulate(1).data<Real<T>>() : nullptr});
    });
  });
  return y;
}

}  // namespace qm
