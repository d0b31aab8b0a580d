#include "autograd/ops/image_mix.h"

#include "autograd/ops/check.h"
#include "kernels/base/current_op.h"
#include "kernels/image_mix.h"

namespace qm {
namespace {

template <class T>
ImageMix<T> describe(const Tensor& images, const ImageNormalization& normalization, const Tensor& x) {
  expect_rank("image_mix", "images", images, 4);
  expect_shape("image_mix", "images", images, {images.dim(0), images.dim(1), images.dim(2), 3});
  ImageMix<T> params{};
  params.batch = images.dim(0);
  params.height = images.dim(1);
  params.width = images.dim(2);
  params.classes = 1;
  params.images = images.data<std::uint8_t>();
  for (int c = 0; c < 3; ++c) {
    params.mean[c] = normalization.mean[c];
    params.std[c] = normalization.std[c];
  }
  params.x = x.data<T>();
  return params;
}

}  // namespace

Tensor normalize_images(const Tensor& images, const ImageNormalization& normalization, DType dtype) {
  const CurrentOp op("normalize_images");
  const Tensor x = Tensor::empty(images.shape(), dtype, images.device());
  visit_activation(dtype, "image_mix",
             [&]<class T>() { image_mix<T>(x.stream(), describe<T>(images, normalization, x)); });
  return x;
}

MixedBatch mix_images(const Tensor& images, const Tensor& labels, const MixSettings& settings, DType dtype) {
  const CurrentOp op("mix_images");
  expect_shape("image_mix", "labels", labels, {images.dim(0)});
  MixedBatch mixed{Tensor::empty(images.shape(), dtype, images.device()),
                    Tensor::empty({images.dim(0), settings.classes}, real_dtype_of(dtype), images.device())};
  if (settings.erased.defined()) {
    expect_rank("image_mix", "erased", settings.erased, 2);
    expect_shape("image_mix", "erased", settings.erased, {images.dim(0), settings.erased.dim(1)});
  }
  visit_activation(dtype, "image_mix", [&]<class T>() {
    ImageMix<T> params = describe<T>(images, settings.normalization, mixed.x);
    params.classes = settings.classes;
    params.labels = labels.data<std::int32_t>();
    params.label_smoothing = settings.label_smoothing;
    params.groups = settings.groups;
    params.mix_group = settings.group;
    params.record = settings.record;
    params.targets = mixed.targets.data<Real<T>>();
    if (settings.erased.defined()) {
      params.erased = reinterpret_cast<const ErasedBox*>(settings.erased.data<std::uint8_t>());
      params.boxes = settings.erased.dim(1) / static_cast<std::int64_t>(sizeof(ErasedBox));
    }
    image_mix<T>(mixed.x.stream(), params);
  });
  return mixed;
}

}  // namespace qm
