#include "autograd/ops/pixel_ops.h"

#include "autograd/ops/check.h"
#include "kernels/base/current_op.h"

namespace qm {

Tensor apply_pixel_ops(const Tensor& images, const Tensor& ops, bool blurs) {
  const CurrentOp op("apply_pixel_ops");
  expect_rank("pixel_ops", "images", images, 4);
  expect_shape("pixel_ops", "images", images, {images.dim(0), images.dim(1), images.dim(2), 3});
  expect_rank("pixel_ops", "ops", ops, 2);
  const auto op_bytes = static_cast<std::int64_t>(sizeof(PixelOp));
  expect_shape("pixel_ops", "ops", ops, {images.dim(0), ops.dim(1) / op_bytes * op_bytes});
  const Tensor out = Tensor::empty(images.shape(), DType::kUInt8, images.device());
  pixel_ops(images.stream(), {.batch = images.dim(0),
                              .height = images.dim(1),
                              .width = images.dim(2),
                              .ops_per_image = ops.dim(1) / op_bytes,
                              .images = images.data<std::uint8_t>(),
                              .ops = reinterpret_cast<const PixelOp*>(ops.data<std::uint8_t>()),
                              .blurs = blurs,
                              .out = out.data<std::uint8_t>()});
  return out;
}

}  // namespace qm
