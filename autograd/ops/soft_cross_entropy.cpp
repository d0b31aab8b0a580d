#include "autograd/ops/soft_cross_entropy.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/soft_cross_entropy.h"

namespace qm {

Tensor soft_cross_entropy(const Tensor& logits, const Tensor& targets, double scale) {
  const CurrentOp op("soft_cross_entropy");
  expect_rank("soft_cross_entropy", "logits", logits, 2);
  expect_shape("soft_cross_entropy", "targets", targets, logits.shape());
  const std::int64_t batch = logits.dim(0), classes = logits.dim(1);
  const Tensor loss = Tensor::empty({1}, targets.dtype(), logits.device());
  const Tensor log_sum_exp = Tensor::empty({batch}, targets.dtype(), logits.device());
  visit_activation(logits.dtype(), "soft_cross_entropy", [&]<class T>() {
    soft_cross_entropy_forward<T>(logits.stream(),
                                  {.batch = batch, .classes = classes, .scale = scale, .logits = logits.data<T>(),
                                   .targets = targets.data<Real<T>>(), .loss = loss.data<Real<T>>(),
                                   .log_sum_exp = log_sum_exp.data<Real<T>>()});
  });

  Tape::record("soft_cross_entropy", {logits}, {loss}, [=](Backward& grad) {
    visit_activation(logits.dtype(), "soft_cross_entropy", [&]<class T>() {
      soft_cross_entropy_backward<T>(
          logits.stream(), {.batch = batch, .classes = classes, .scale = scale, .logits = logits.data<T>(),
                            .targets = targets.data<Real<T>>(), .log_sum_exp = log_sum_exp.data<Real<T>>(),
                            .grad_loss = grad.grad_output(0).data<Real<T>>(), .grad_logits = grad.assign(0).data<T>()});
    });
  });
  return loss;
}

}  // namespace qm
