#include "autograd/ops/cross_scan.h"

#include "autograd/ops/check.h"
#include "kernels/cross_scan.h"

namespace qm {

Tensor cross_scan(const Tensor& x, const Tensor& projection, const CoreScanWeights& weights) {
  const ScanShape scan = weights.shape("cross_scan");
  expect_rank("cross_scan", "x", x, 4);
  const CrossScanShape shape{x.dim(0), x.dim(1), x.dim(2), scan};
  expect_shape("cross_scan", "x", x, {shape.batch, shape.height, shape.width, scan.channels});
  expect_shape("cross_scan", "projection", projection,
               {shape.batch, shape.height, shape.width, scan.directions * scan.projection()});

  const Tensor z = Tensor::empty(x.shape(), x.dtype(), x.device());
  visit_activation(x.dtype(), "cross_scan", [&]<class T>() {
    cross_scan_forward<T>(x.stream(), {.shape = shape, .x = x.data<T>(), .projection = projection.data<T>(),
                                       .weights = weights.pointers<T>(), .z = z.data<T>()});
  });

  std::vector<Tensor> inputs{x, projection};
  for (const auto& weight : weights.list()) inputs.push_back(weight);
  Tape::record("cross_scan", inputs, {z}, [=](Backward& grad) {
    visit_activation(x.dtype(), "cross_scan", [&]<class T>() {
      cross_scan_backward<T>(x.stream(),
                             {.shape = shape, .x = x.data<T>(), .projection = projection.data<T>(),
                              .weights = weights.pointers<T>(), .grad_z = grad.grad_output(0).data<T>(),
                              .grad_x = grad.assign(0).data<T>(), .grad_projection = grad.assign(1).data<T>(),
                              .grad_weights = CoreScanWeights::gradients<T>(grad, 2)});
    });
  });
  return z;
}

}  // namespace qm
