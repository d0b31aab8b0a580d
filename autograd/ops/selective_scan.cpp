#include "autograd/ops/selective_scan.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/selective_scan.h"

namespace qm {

Tensor selective_scan(const SelectiveScanInputs& in) {
  const CurrentOp op("selective_scan");
  expect_rank("selective_scan", "u", in.u, 4);
  expect_rank("selective_scan", "A", in.A, 2);
  const SelectiveScanShape shape{in.u.dim(0), in.u.dim(1), in.u.dim(2), in.u.dim(3), in.A.dim(1)};
  const std::int64_t rows = shape.directions * shape.channels;
  expect_shape("selective_scan", "delta", in.delta, in.u.shape());
  expect_shape("selective_scan", "A", in.A, {rows, shape.states});
  expect_shape("selective_scan", "B", in.B, {shape.batch, shape.length, shape.directions, shape.states});
  expect_shape("selective_scan", "C", in.C, in.B.shape());
  expect_shape("selective_scan", "D", in.D, {rows});
  expect_shape("selective_scan", "delta_bias", in.delta_bias, {rows});

  Tensor y = Tensor::empty(in.u.shape(), in.u.dtype(), in.u.device());
  visit_activation(y.dtype(), "selective_scan", [&]<class T>() {
    selective_scan_forward<T>(y.stream(), {.shape = shape, .u = in.u.data<T>(), .delta = in.delta.data<T>(),
                                           .A = in.A.data<Real<T>>(), .B = in.B.data<T>(), .C = in.C.data<T>(),
                                           .D = in.D.data<Real<T>>(), .delta_bias = in.delta_bias.data<Real<T>>(),
                                           .y = y.data<T>()});
  });

  Tape::record("selective_scan", {in.u, in.delta, in.A, in.B, in.C, in.D, in.delta_bias}, {y}, [=](Backward& grad) {
    visit_activation(in.u.dtype(), "selective_scan", [&]<class T>() {
      selective_scan_backward<T>(
          in.u.stream(),
          {.shape = shape, .u = in.u.data<T>(), .delta = in.delta.data<T>(), .A = in.A.data<Real<T>>(), .B = in.B.data<T>(),
           .C = in.C.data<T>(), .D = in.D.data<Real<T>>(), .delta_bias = in.delta_bias.data<Real<T>>(),
           .grad_y = grad.grad_output(0).data<T>(), .grad_u = grad.assign(0).data<T>(),
           .grad_delta = grad.assign(1).data<T>(), .grad_A = grad.needs(2) ? grad.accumulate(2).data<Real<T>>() : nullptr,
           .grad_B = grad.assign(3).data<T>(), .grad_C = grad.assign(4).data<T>(),
           .grad_D = grad.needs(5) ? grad.accumulate(5).data<Real<T>>() : nullptr,
           .grad_delta_bias = grad.needs(6) ? grad.accumulate(6).data<Real<T>>() : nullptr});
    });
  });
  return y;
}

}  // namespace qm
