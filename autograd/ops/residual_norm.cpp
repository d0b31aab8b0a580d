#include "autograd/ops/residual_norm.h"

#include "autograd/ops/check.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"

namespace qm {

ResidualNorm residual_norm(const Tensor& stream, const Tensor& branch, const DropPathSite& drop_path,
                           const Tensor& weight, const Tensor& bias) {
  const CurrentOp op("residual_norm");
  expect_shape("residual_norm", "branch", branch, stream.shape());
  const std::int64_t batch = stream.dim(0), channels = stream.dim(-1), rows = rows_of(stream);
  const bool normalizes = weight.defined();
  if (normalizes) {
    expect_shape("residual_norm", "weight", weight, {channels});
    expect_shape("residual_norm", "bias", bias, {channels});
  }

  const Tensor sum = Tensor::empty(stream.shape(), stream.dtype(), stream.device());
  Tensor y, mean, rstd;
  if (normalizes) {
    y = Tensor::empty(stream.shape(), stream.dtype(), stream.device());
    mean = Tensor::empty({rows}, weight.dtype(), stream.device());
    rstd = Tensor::empty({rows}, weight.dtype(), stream.device());
  }
  visit_activation(stream.dtype(), "residual_norm", [&]<class T>() {
    residual_norm_forward<T>(
        stream.stream(),
        {.batch = batch, .rows_per_sample = rows / batch, .channels = channels, .drop_path = drop_path,
         .stream = stream.data<T>(), .branch = branch.data<T>(), .weight = data_or_null<Real<T>>(weight),
         .bias = data_or_null<Real<T>>(bias), .stream_out = sum.data<T>(), .y = data_or_null<T>(y),
         .mean = data_or_null<Real<T>>(mean), .rstd = data_or_null<Real<T>>(rstd)});
  });

  std::vector<Tensor> outputs{sum};
  if (normalizes) outputs.push_back(y);
  Tape::record("residual_norm", {stream, branch, weight, bias}, outputs, [=](Backward& grad) {
    visit_activation(sum.dtype(), "residual_norm", [&]<class T>() {
      residual_norm_backward<T>(
          sum.stream(),
          {.batch = batch, .rows_per_sample = rows / batch, .channels = channels, .drop_path = drop_path,
           .stream_out = sum.data<T>(), .weight = data_or_null<Real<T>>(weight), .mean = data_or_null<Real<T>>(mean),
           .rstd = data_or_null<Real<T>>(rstd), .grad_stream_out = data_or_null<T>(grad.grad_output(0)),
           .grad_y = normalizes ? data_or_null<T>(grad.grad_output(1)) : nullptr,
           .grad_stream = grad.needs(0) ? grad.assign(0).data<T>() : nullptr,
           .grad_branch = grad.needs(1) ? grad.assign(1).data<T>() : nullptr,
           .grad_weight = grad.needs(2) ? grad.accumulate(2).data<Real<T>>() : nullptr,
           .grad_bias = grad.needs(3) ? grad.accumulate(3).data<Real<T>>() : nullptr});
    });
  });
  return {sum, y};
}

}  // namespace qm
