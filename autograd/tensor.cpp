#include "autograd/tensor.h"

#include "autograd/tape.h"
#include "kernels/base/allocator.h"
#include "kernels/memory.h"

namespace qm {

std::int64_t count_of(const Shape& shape) {
  std::int64_t count = 1;
  for (const auto extent : shape) count *= extent;
  return count;
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

Tensor Tensor::empty(Shape shape, DType dtype, Device device) {
  for (const auto extent : shape) {
    QM_CHECK(extent >= 0, ShapeError, "tensor: negative extent in shape ", to_string(shape));
  }
  Tensor tensor;
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  tensor.device_ = device;
  Allocator& allocator = allocator_for(device);
  tensor.storage_ = std::shared_ptr<void>(allocator.allocate(tensor.bytes()),
                                          [&allocator](void* block) { allocator.deallocate(block); });
  tensor.data_ = tensor.storage_.get();
  tensor.variable_ = std::make_shared<Variable>();
  return tensor;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor tensor = empty(std::move(shape), dtype, device);
  tensor.zero();
  return tensor;
}

template <class T>
Tensor Tensor::from(const std::vector<T>& values, Shape shape) {
  QM_CHECK(static_cast<std::int64_t>(values.size()) == count_of(shape), ShapeError, "tensor: shape ", to_string(shape),
           " holds ", count_of(shape), " elements, got ", values.size());
  Tensor tensor = empty(std::move(shape), dtype_of_v<T>);
  copy_bytes(tensor.stream(), tensor.data_, Device{}, values.data(), Device{}, tensor.bytes());
  return tensor;
}

std::int64_t Tensor::dim(int axis) const {
  const int index = axis < 0 ? axis + rank() : axis;
  QM_CHECK(index >= 0 && index < rank(), ShapeError, "tensor: axis ", axis, " of shape ", to_string(shape_));
  return shape_[static_cast<std::size_t>(index)];
}

template <class T>
T* Tensor::data() const {
  QM_CHECK(defined(), ShapeError, "tensor: no memory behind an undefined tensor");
  QM_CHECK(dtype_ == dtype_of_v<T>, ShapeError, "tensor: expected ", name_of(dtype_of_v<T>), ", got ", name_of(dtype_));
  return static_cast<T*>(data_);
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  const T* source = data<T>();
  std::vector<T> values(static_cast<std::size_t>(count()));
  copy_bytes(stream(), values.data(), Device{}, source, device_, bytes());
  return values;
}

Tensor Tensor::reshape(Shape shape) const {
  QM_CHECK(count_of(shape) == count(), ShapeError, "reshape: ", to_string(shape_), " to ", to_string(shape));
  Tensor view = *this;
  view.shape_ = std::move(shape);
  return view;
}

Tensor Tensor::slice(std::int64_t offset, Shape shape) const {
  QM_CHECK(offset >= 0 && offset + count_of(shape) <= count(), ShapeError, "slice: ", to_string(shape), " at ", offset,
           " of ", to_string(shape_));
  Tensor view = *this;
  view.data_ = static_cast<char*>(data_) + static_cast<std::size_t>(offset) * size_of(dtype_);
  view.shape_ = std::move(shape);
  view.variable_ = std::make_shared<Variable>();
  return view;
}

Tensor Tensor::clone() const {
  Tensor copy = empty(shape_, dtype_, device_);
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::to(DType dtype) const {
  Tensor converted = empty(shape_, dtype, device_);
  converted.cast_from(*this);
  return converted;
}

Tensor Tensor::in(DType dtype) const {
  if (dtype == dtype_) return *this;
  const bool kept = variable_ && variable_->rounded.defined() && variable_->rounded.dtype() == dtype;
  return kept ? variable_->rounded.reshape(shape_) : to(dtype);
}

void Tensor::set_rounded(const Tensor& rounded) const {
  QM_CHECK(rounded.count() == count() && rounded.device() == device_, ShapeError, "set_rounded: expected ",
           to_string(shape_), " on ", device_.name(), ", got ", to_string(rounded.shape()), " on ",
           rounded.device().name());
  variable_->rounded = rounded;
}

Tensor Tensor::to(Device device) const {
  if (device == device_) return *this;
  Tensor moved = empty(shape_, dtype_, device);
  moved.copy_from(*this);
  return moved;
}

void Tensor::copy_from(const Tensor& source) const {
  QM_CHECK(source.shape_ == shape_ && source.dtype_ == dtype_, ShapeError, "copy: expected ", name_of(dtype_),
           to_string(shape_), ", got ", name_of(source.dtype_), to_string(source.shape_));
  copy_bytes(stream(), data_, device_, source.data_, source.device_, bytes());
}

void Tensor::cast_from(const Tensor& source) const {
  QM_CHECK(source.shape_ == shape_ && source.device_ == device_, ShapeError, "cast: expected ", to_string(shape_), " on ",
           device_.name(), ", got ", to_string(source.shape_), " on ", source.device_.name());
  cast(stream(), source.dtype_, source.data_, dtype_, data_, count());
}

void Tensor::zero() const { zero_bytes(stream(), data_, bytes()); }

Tensor& Tensor::set_requires_grad(bool value) {
  variable_->requires_grad = value;
  return *this;
}

bool Tensor::requires_grad() const { return variable_ && variable_->requires_grad; }

Tensor Tensor::grad() const {
  return variable_ && variable_->grad.defined() ? variable_->grad.reshape(shape_) : Tensor();
}

void Tensor::set_grad(const Tensor& grad) const {
  QM_CHECK(grad.count() == count() && grad.dtype() == dtype_ && grad.device() == device_, ShapeError,
           "set_grad: expected ", name_of(dtype_), to_string(shape_), " on ", device_.name(), ", got ",
           name_of(grad.dtype()), to_string(grad.shape()), " on ", grad.device().name());
  variable_->grad = grad;
}

void Tensor::set_grad_hook(std::function<void()> hook) const { variable_->hook = std::move(hook); }

#define QM_INSTANTIATE(T)                                         \
  template Tensor Tensor::from(const std::vector<T>&, Shape);     \
  template T* Tensor::data() const;                               \
  template std::vector<T> Tensor::to_vector() const;
QM_INSTANTIATE(float)
QM_INSTANTIATE(double)
QM_INSTANTIATE(bfloat16)
QM_INSTANTIATE(std::uint8_t)
QM_INSTANTIATE(std::int32_t)
QM_INSTANTIATE(std::int64_t)
#undef QM_INSTANTIATE

}  // namespace qm
