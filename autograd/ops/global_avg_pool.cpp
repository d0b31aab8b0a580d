#include "autograd/ops/global_avg_pool.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/global_avg_pool.h"

namespace qm {

Tensor global_avg_pool(const Tensor& x) {
  const CurrentOp op("global_avg_pool");
  QM_CHECK(x.rank() >= 3, ShapeError, "global_avg_pool: expected (B, ..., C), got ", to_string(x.shape()));
  const std::int64_t batch = x.dim(0), channels = x.dim(-1), length = rows_of(x) / batch;
  const Tensor y = Tensor::empty({batch, channels}, real_dtype_of(x.dtype()), x.device());
  visit_activation(x.dtype(), "global_avg_pool", [&]<class T>() {
    global_avg_pool_forward<T>(x.stream(), {.batch = batch, .length = length, .channels = channels,
                                            .x = x.data<T>(), .y = y.data<Real<T>>()});
  });

  Tape::record("global_avg_pool", {x}, {y}, [=, dtype = x.dtype()](Backward& grad) {
    visit_activation(dtype, "global_avg_pool", [&]<class T>() {
      global_avg_pool_backward<T>(y.stream(), {.batch = batch, .length = length, .channels = channels,
                                               .grad_y = grad.grad_output(0).data<Real<T>>(),
                                               .grad_x = grad.assign(0).data<T>()});
    });
  });
  return y;
}

}  // namespace qm
