#include "autograd/ops/conv2d.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/conv2d.h"

namespace qm {

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, std::int64_t stride) {
  const CurrentOp op("conv2d");
  expect_rank("conv2d", "x", x, 4);
  expect_rank("conv2d", "weight", weight, 4);
  const Conv2dShape shape{x.dim(0), x.dim(1), x.dim(2), x.dim(3), weight.dim(0), stride};
  expect_shape("conv2d", "weight", weight, {shape.out, shape.in, 3, 3});
  if (bias.defined()) expect_shape("conv2d", "bias", bias, {shape.out});

  Tensor y = Tensor::empty({shape.batch, shape.out_height(), shape.out_width(), shape.out}, x.dtype(), x.device());
  visit_activation(x.dtype(), "conv2d", [&]<class T>() {
    conv2d_forward<T>(x.stream(), {.shape = shape, .x = x.data<T>(), .weight = weight.data<Real<T>>(),
                                   .bias = data_or_null<Real<T>>(bias), .y = y.data<T>()});
  });

  Tape::record("conv2d", {x, weight, bias}, {y}, [=](Backward& grad) {
    visit_activation(x.dtype(), "conv2d", [&]<class T>() {
      conv2d_backward<T>(x.stream(), {.shape = shape, .x = x.data<T>(), .weight = weight.data<Real<T>>(),
                                      .grad_y = grad.grad_output(0).data<T>(),
                                      .grad_x = grad.needs(0) ? grad.assign(0).data<T>() : nullptr,
                                      .grad_weight = grad.needs(1) ? grad.accumulate(1).data<Real<T>>() : nullptr,
                                      .grad_bias = grad.needs(2) ? grad.accumulate(2).data<Real<T>>() : nullptr});
    });
  });
  return y;
}

}  // namespace qm
