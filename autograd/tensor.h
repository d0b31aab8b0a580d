// Tensor: a contiguous, row-major array on a device, with the identity the tape knows it by.
//
// A Tensor is a handle: copies share memory. Nothing is ever strided; images are (B, H, W, 3), maps (B, H, W, C) and
// sequences (B, L, D), and re-ordering is done by the kernels that need it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

using Shape = std::vector<std::int64_t>;

/// Product of the extents; 1 for a scalar's empty shape.
std::int64_t count_of(const Shape& shape);
/// "(2, 3, 4)"
std::string to_string(const Shape& shape);

struct Variable;

class Tensor {
 public:
  /// The undefined tensor: no memory, no shape.
  Tensor() = default;

  /// Memory with undefined contents. Throws ShapeError on a negative extent.
  static Tensor empty(Shape shape, DType dtype, Device device = {});
  static Tensor zeros(Shape shape, DType dtype, Device device = {});
  /// A CPU tensor holding a copy of `values`. Throws ShapeError unless their number fits the shape.
  template <class T>
  static Tensor from(const std::vector<T>& values, Shape shape);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  /// Extent of an axis; negative axes count from the last.
  std::int64_t dim(int axis) const;
  int rank() const { return static_cast<int>(shape_.size()); }
  std::int64_t count() const { return count_of(shape_); }
  std::size_t bytes() const { return static_cast<std::size_t>(count()) * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  Stream stream() const { return current_stream(device_); }

  void* raw() const { return data_; }
  /// The elements. Throws ShapeError if T is not the tensor's dtype.
  template <class T>
  T* data() const;
  /// A copy of the elements on the host (waits for the device). For tests, logging and files; never inside a step.
  template <class T>
  std::vector<T> to_vector() const;

  /// The same memory and the same autograd identity under another shape of equal count.
  Tensor reshape(Shape shape) const;
  /// A view on `shape` elements starting at `offset`; a tensor of its own for the tape.
  Tensor slice(std::int64_t offset, Shape shape) const;
  /// A copy of its own memory, unknown to the tape.
  Tensor clone() const;
  Tensor to(DType dtype) const;
  /// A leaf's values as operations on activations of `dtype` take them: the tensor itself if that is its dtype, else the
  /// copy given to set_rounded, else to(dtype).
  Tensor in(DType dtype) const;
  /// Keeps `rounded` (same count and device) as this leaf's values in a lower precision. Whoever changes the values
  /// brings it up to date.
  void set_rounded(const Tensor& rounded) const;
  /// The tensor itself if it is there already, else a copy on `device`, unknown to the tape.
  Tensor to(Device device) const;
  /// Copies `source`'s elements here. Shapes and dtypes must agree; devices may differ.
  void copy_from(const Tensor& source) const;
  /// Copies `source`'s elements here, converted to this dtype. Shapes and devices must agree.
  void cast_from(const Tensor& source) const;
  void zero() const;

  /// Marks a leaf whose gradient backward accumulates. Returns *this.
  Tensor& set_requires_grad(bool value = true);
  bool requires_grad() const;
  /// The gradient accumulated so far (undefined before the first backward), in this tensor's shape.
  Tensor grad() const;
  /// Makes backward accumulate into `grad` (same count, dtype and device), e.g. a slice of a flat gradient buffer.
  void set_grad(const Tensor& grad) const;
  /// Called by backward each time the last use of this leaf has contributed to its gradient.
  void set_grad_hook(std::function<void()> hook) const;

  const std::shared_ptr<Variable>& variable() const { return variable_; }

 private:
  friend class Tape;
  std::shared_ptr<void> storage_;
  void* data_ = nullptr;
  Shape shape_;
  DType dtype_ = DType::kFloat32;
  Device device_;
  std::shared_ptr<Variable> variable_;
};

}  // namespace qm
