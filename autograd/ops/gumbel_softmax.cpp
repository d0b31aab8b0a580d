#include "autograd/ops/gumbel_softmax.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/gumbel_softmax.h"

namespace qm {

QuadrantChoice gumbel_softmax(const Tensor& logits, const GumbelNoise& noise) {
  const CurrentOp op("gumbel_softmax");
  const std::int64_t batch = logits.dim(0);
  expect_shape("gumbel_softmax", "logits", logits, {batch, 4});
  if (noise.noise.defined()) expect_shape("gumbel_softmax", "noise", noise.noise, {batch, 4});
  if (noise.forced.defined()) expect_shape("gumbel_softmax", "forced", noise.forced, {batch});

  const Tensor soft = Tensor::empty({batch, 4}, logits.dtype(), logits.device());
  const Tensor one_hot = Tensor::empty({batch, 4}, logits.dtype(), logits.device());
  const Tensor selected = Tensor::empty({batch}, DType::kInt32, logits.device());
  visit_real(logits.dtype(), "gumbel_softmax", [&]<class T>() {
    gumbel_softmax_forward<T>(logits.stream(),
                              {.batch = batch, .logits = logits.data<T>(), .noise = data_or_null<T>(noise.noise),
                               .record = noise.record, .site = noise.site,
                               .forced = data_or_null<std::int32_t>(noise.forced), .soft = soft.data<T>(),
                               .one_hot = one_hot.data<T>(), .selected = selected.data<std::int32_t>()});
  });

  Tape::record("gumbel_softmax", {logits}, {one_hot}, [=](Backward& grad) {
    visit_real(soft.dtype(), "gumbel_softmax", [&]<class T>() {
      gumbel_softmax_backward<T>(soft.stream(), {.batch = batch, .soft = soft.data<T>(),
                                                 .grad_one_hot = grad.grad_output(0).data<T>(),
                                                 .grad_logits = grad.assign(0).data<T>()});
    });
  });
  return {one_hot, selected};
}

}  // namespace qm
