#include "autograd/ops/score_pool.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/score_pool.h"

namespace qm {

Tensor score_pool(const Tensor& x) {
  const CurrentOp op("score_pool");
  expect_rank("score_pool", "x", x, 4);
  expect_shape("score_pool", "x", x, {x.dim(0), x.dim(1), x.dim(2), 2});
  Tensor logits = Tensor::empty({x.dim(0), 4}, real_dtype_of(x.dtype()), x.device());
  visit_activation(x.dtype(), "score_pool", [&]<class T>() {
    score_pool_forward<T>(x.stream(), {.batch = x.dim(0), .height = x.dim(1), .width = x.dim(2), .x = x.data<T>(),
                                       .logits = logits.data<Real<T>>()});
  });

  Tape::record("score_pool", {x}, {logits}, [=](Backward& grad) {
    visit_activation(x.dtype(), "score_pool", [&]<class T>() {
      score_pool_backward<T>(x.stream(), {.batch = x.dim(0), .height = x.dim(1), .width = x.dim(2), .x = x.data<T>(),
                                          .grad_logits = grad.grad_output(0).data<Real<T>>(),
                                          .grad_x = grad.assign(0).data<T>()});
    });
  });
  return logits;
}

}  // namespace qm
