#include "autograd/ops/quad_scan.h"

#include "kernels/base/current_op.h"
#include "autograd/ops/check.h"
#include "kernels/quad_scan.h"

namespace qm {

Tensor quad_scan(const Tensor& x, const Tensor& projection, const QuadrantChoice& choice,
                 const CoreScanWeights& weights, const QuadScanGeometry& geometry) {
  const CurrentOp op("quad_scan");
  const ScanShape scan = weights.shape("quad_scan");
  expect_rank("quad_scan", "x", x, 4);
  const std::int64_t batch = x.dim(0), height = x.dim(1), width = x.dim(2);
  expect_shape("quad_scan", "x", x, {batch, height, width, scan.channels});
  expect_shape("quad_scan", "projection", projection, {batch, height, width, scan.directions * scan.projection()});
  expect_shape("quad_scan", "one_hot", choice.one_hot, {batch, 4});
  expect_shape("quad_scan", "selected", choice.selected, {batch});
  const QuadScanShape shape{batch,
                            {height, width, geometry.roll_h, geometry.roll_w, geometry.fine_order},
                            geometry.out_height,
                            geometry.out_width,
                            scan};

  const Tensor z = Tensor::empty({batch, shape.out_height, shape.out_width, scan.channels}, x.dtype(), x.device());
  std::vector<Tensor> inputs{x, projection, choice.one_hot};
  for (const auto& weight : weights.list()) inputs.push_back(weight);
  Tensor y, states;
  visit_activation(x.dtype(), "quad_scan", [&]<class T>() {
    const ScanSaved saved = quad_scan_saved<T>(x.device(), shape);
    if (saved.y > 0) y = Tensor::empty({saved.y}, x.dtype(), x.device());
    if (saved.states > 0 && Tape::wants(inputs)) {
      states = Tensor::empty({saved.states}, real_dtype_of(x.dtype()), x.device());
    }
    quad_scan_forward<T>(x.stream(), {.shape = shape, .x = x.data<T>(), .projection = projection.data<T>(),
                                      .selected = choice.selected.data<std::int32_t>(),
                                      .weights = weights.pointers<T>(), .y = data_or_null<T>(y),
                                      .states = data_or_null<Real<T>>(states), .z = z.data<T>()});
  });

  Tape::record("quad_scan", inputs, {z}, [=, selected = choice.selected](Backward& grad) {
    visit_activation(x.dtype(), "quad_scan", [&]<class T>() {
      quad_scan_backward<T>(
          x.stream(),
          {.shape = shape, .x = x.data<T>(), .projection = projection.data<T>(),
           .selected = selected.data<std::int32_t>(), .weights = weights.pointers<T>(),
           .y = data_or_null<T>(y), .states = data_or_null<Real<T>>(states),
           .grad_z = grad.grad_output(0).data<T>(), .grad_x = grad.assign(0).data<T>(),
           .grad_projection = grad.assign(1).data<T>(), .grad_one_hot = grad.assign(2).data<Real<T>>(),
           .grad_weights = CoreScanWeights::gradients<T>(grad, 3)});
    });
  });
  return z;
}

}  // namespace qm
