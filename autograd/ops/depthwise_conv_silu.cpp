#include "autograd/ops/depthwise_conv_silu.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/depthwise_conv_silu.h"

namespace qm {

Tensor depthwise_conv_silu(const Tensor& x, const Tensor& weight, std::int64_t out_height, std::int64_t out_width) {
  const CurrentOp op("depthwise_conv_silu");
  expect_rank("depthwise_conv_silu", "x", x, 4);
  const DepthwiseShape shape{x.dim(0), x.dim(1), x.dim(2), x.dim(3), out_height, out_width};
  expect_shape("depthwise_conv_silu", "weight", weight, {shape.channels, 1, 3, 3});

  Tensor y = Tensor::empty({shape.batch, out_height, out_width, shape.channels}, x.dtype(), x.device());
  visit_activation(x.dtype(), "depthwise_conv_silu", [&]<class T>() {
    depthwise_conv_silu_forward<T>(
        x.stream(), {.shape = shape, .x = x.data<T>(), .weight = weight.data<Real<T>>(), .y = y.data<T>()});
  });

  Tape::record("depthwise_conv_silu", {x, weight}, {y}, [=](Backward& grad) {
    visit_activation(x.dtype(), "depthwise_conv_silu", [&]<class T>() {
      depthwise_conv_silu_backward<T>(x.stream(),
                                      {.shape = shape, .x = x.data<T>(), .weight = weight.data<Real<T>>(),
                                       .grad_y = grad.grad_output(0).data<T>(), .grad_x = grad.assign(0).data<T>(),
                                       .grad_weight = grad.needs(1) ? grad.accumulate(1).data<Real<T>>() : nullptr});
    });
  });
  return y;
}

}  // namespace qm
