#include "autograd/ops/linear.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/linear.h"

namespace qm {

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const CurrentOp op("linear");
  expect_rank("linear", "weight", weight, 2);
  const std::int64_t out = weight.dim(0), in = weight.dim(1);
  QM_CHECK(x.rank() >= 1 && x.dim(-1) == in, ShapeError, "linear: expected x with ", in, " channels, got ",
           to_string(x.shape()));
  if (bias.defined()) expect_shape("linear", "bias", bias, {out});

  const Tensor rounded = weight.in(x.dtype()), rounded_bias = bias.defined() ? bias.in(x.dtype()) : Tensor();
  Shape shape = x.shape();
  shape.back() = out;
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  visit_activation(x.dtype(), "linear", [&]<class T>() {
    linear_forward<T>(x.stream(), {.rows = rows_of(x), .in = in, .out = out, .x = x.data<T>(),
                                   .weight = rounded.data<T>(), .bias = data_or_null<T>(rounded_bias),
                                   .y = y.data<T>()});
  });

  Tape::record("linear", {x, weight, bias}, {y}, [=](Backward& grad) {
    const Backward::Sum grad_x = grad.needs(0) ? grad.sum(0) : Backward::Sum{};
    visit_activation(x.dtype(), "linear", [&]<class T>() {
      linear_backward<T>(x.stream(),
                         {.rows = rows_of(x), .in = in, .out = out, .x = x.data<T>(), .weight = rounded.data<T>(),
                          .grad_y = grad.grad_output(0).data<T>(),
                          .grad_x = data_or_null<T>(grad_x.grad), .grad_x_adds = grad_x.adds,
                          .grad_weight = grad.needs(1) ? grad.accumulate(1).data<Real<T>>() : nullptr,
                          .grad_bias = grad.needs(2) ? grad.accumulate(2).data<Real<T>>() : nullptr});
    });
  });
  return y;
}

}  // namespace qm
