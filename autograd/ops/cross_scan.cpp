#include "autograd/ops/cross_scan.h"

#include "kernels/base/current_op.h"
#include "autograd/ops/check.h"
#include "kernels/cross_scan.h"

namespace qm {

Tensor cross_scan(const Tensor& x, const Tensor& projection, const CoreScanWeights& weights) {
  const CurrentOp op("cross_scan");
  const ScanShape scan = weights.shape("cross_scan");
  expect_rank("cross_scan", "x", x, 4);
  const CrossScanShape shape{x.dim(0), x.dim(1), x.dim(2), scan};
  expect_shape("cross_scan", "x", x, {shape.batch, shape.height, shape.width, scan.channels});
  expect_shape("cross_scan", "projection", projection,
               {shape.batch, shape.height, shape.width, scan.directions * scan.projection()});

  const Tensor z = Tensor::empty(x.shape(), x.dtype(), x.device());
  std::vector<Tensor> inputs{x, projection};
  for (const auto& weight : weights.list()) inputs.push_back(weight);
  Tensor states;
  visit_activation(x.dtype(), "cross_scan", [&]<class T>() {
    const ScanSaved saved = cross_scan_saved<T>(x.device(), shape);
    if (saved.states > 0 && Tape::wants(inputs)) {
      states = Tensor::empty({saved.states}, real_dtype_of(x.dtype()), x.device());
    }
    cross_scan_forward<T>(x.stream(), {.shape = shape, .x = x.data<T>(), .projection = projection.data<T>(),
                                       .weights = weights.pointers<T>(),
                                       .states = data_or_null<Real<T>>(states), .z = z.data<T>()});
  });

  Tape::record("cross_scan", inputs, {z}, [=](Backward& grad) {
    visit_activation(x.dtype(), "cross_scan", [&]<class T>() {
      cross_scan_backward<T>(x.stream(),
                             {.shape = shape, .x = x.data<T>(), .projection = projection.data<T>(),
                              .weights = weights.pointers<T>(), .states = data_or_null<Real<T>>(states),
                              .grad_z = grad.grad_output(0).data<T>(),
                              .grad_x = grad.assign(0).data<T>(), .grad_projection = grad.assign(1).data<T>(),
                              .grad_weights = CoreScanWeights::gradients<T>(grad, 2)});
    });
  });
  return z;
}

}  // namespace qm
