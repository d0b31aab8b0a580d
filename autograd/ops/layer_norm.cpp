#include "autograd/ops/layer_norm.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/layer_norm.h"

namespace qm {

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const CurrentOp op("layer_norm");
  const std::int64_t rows = rows_of(x), channels = x.dim(-1);
  expect_shape("layer_norm", "weight", weight, {channels});
  expect_shape("layer_norm", "bias", bias, {channels});

  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  Tensor mean = Tensor::empty({rows}, weight.dtype(), x.device());
  Tensor rstd = Tensor::empty({rows}, weight.dtype(), x.device());
  visit_activation(x.dtype(), "layer_norm", [&]<class T>() {
    layer_norm_forward<T>(x.stream(), {.rows = rows, .channels = channels, .x = x.data<T>(),
                                       .weight = weight.data<Real<T>>(), .bias = bias.data<Real<T>>(), .y = y.data<T>(),
                                       .mean = mean.data<Real<T>>(), .rstd = rstd.data<Real<T>>()});
  });

  Tape::record("layer_norm", {x, weight, bias}, {y}, [=](Backward& grad) {
    const Backward::Sum grad_x = grad.sum(0);
    visit_activation(x.dtype(), "layer_norm", [&]<class T>() {
      layer_norm_backward<T>(x.stream(), {.rows = rows, .channels = channels, .x = x.data<T>(),
                                          .weight = weight.data<Real<T>>(), .mean = mean.data<Real<T>>(),
                                          .rstd = rstd.data<Real<T>>(),
                                          .grad_y = grad.grad_output(0).data<T>(), .grad_x = grad_x.grad.data<T>(),
                                          .grad_x_adds = grad_x.adds,
                                          .grad_weight = grad.needs(1) ? grad.accumulate(1).data<Real<T>>() : nullptr,
                                          .grad_bias = grad.needs(2) ? grad.accumulate(2).data<Real<T>>() : nullptr});
    });
  });
  return y;
}

}  // namespace qm
