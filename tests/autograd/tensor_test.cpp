#include "autograd/tensor.h"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/base/allocator.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "no error";
}

TEST(autograd, tensor_shapes_and_counts) {
  const Tensor x = Tensor::zeros({2, 3, 4}, DType::kFloat32);
  EXPECT_EQ(x.count(), 24);
  EXPECT_EQ(x.bytes(), 96u);
  EXPECT_EQ(x.rank(), 3);
  EXPECT_EQ(x.dim(0), 2);
  EXPECT_EQ(x.dim(-1), 4);
  EXPECT_EQ(x.to_vector<float>(), std::vector<float>(24, 0.0f));
  EXPECT_EQ(Tensor::zeros({}, DType::kFloat64).count(), 1);
  EXPECT_EQ(Tensor::zeros({3, 0}, DType::kFloat64).to_vector<double>().size(), 0u);
  EXPECT_FALSE(Tensor().defined());
  EXPECT_EQ(to_string({2, 3, 4}), "(2, 3, 4)");
  EXPECT_EQ(to_string(Shape{}), "()");
}

TEST(autograd, tensor_handles_and_reshapes_share_memory) {
  const Tensor x = doubles({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor handle = x, flat = x.reshape({6});
  flat.data<double>()[4] = 50;
  EXPECT_EQ(values_of(handle), (std::vector<double>{1, 2, 3, 4, 50, 6}));
  EXPECT_EQ(flat.variable(), x.variable());
  EXPECT_EQ(x.shape(), (Shape{2, 3}));
}

TEST(autograd, tensor_slices_share_memory_but_not_identity) {
  const Tensor x = doubles({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor middle = x.slice(2, {1, 3});
  EXPECT_EQ(values_of(middle), (std::vector<double>{3, 4, 5}));
  middle.data<double>()[0] = 30;
  EXPECT_EQ(values_of(x)[2], 30);
  EXPECT_NE(middle.variable(), x.variable());
  EXPECT_EQ(values_of(middle.slice(1, {2})), (std::vector<double>{4, 5}));
  Tensor leaf = middle;
  leaf.set_requires_grad();
  EXPECT_FALSE(x.requires_grad());
}

TEST(autograd, tensor_slice_keeps_the_memory_alive) {
  Tensor slice;
  {
    const Tensor x = filled({1000}, 7);
    slice = x.slice(500, {2});
  }
  const Tensor other = filled({1000}, 8);  // would take the block had it been freed
  EXPECT_EQ(values_of(slice), (std::vector<double>{7, 7}));
}

TEST(autograd, tensor_clone_is_independent) {
  Tensor x = doubles({2}, {1, 2});
  x.set_requires_grad();
  const Tensor copy = x.clone();
  copy.data<double>()[0] = 10;
  EXPECT_EQ(values_of(x)[0], 1);
  EXPECT_FALSE(copy.requires_grad());
}

TEST(autograd, tensor_memory_returns_with_the_last_handle) {
  const std::size_t before = allocator_for(Device{}).stats().allocated;
  {
    const Tensor x = Tensor::zeros({1000}, DType::kFloat64);
    const Tensor view = x.reshape({10, 100}).slice(0, {5});
    EXPECT_GE(allocator_for(Device{}).stats().allocated, before + 8000);
  }
  EXPECT_EQ(allocator_for(Device{}).stats().allocated, before);
}

TEST(autograd, tensor_conversions) {
  const double tie = 1 + 3.0 / 256;  // half way between two neighbours in bfloat16; the even one is above
  const Tensor x = doubles({4}, {tie, -2.5, 1e300, 0});
  const auto narrow = x.to(DType::kFloat32).to_vector<float>();
  EXPECT_EQ(narrow[0], static_cast<float>(tie));
  EXPECT_EQ(narrow[2], std::numeric_limits<float>::infinity());
  const auto back = values_of(x.to(DType::kBFloat16).to(DType::kFloat64));
  EXPECT_EQ(back[0], 1 + 1.0 / 64);
  EXPECT_EQ(back[1], -2.5);
  const Tensor bytes = Tensor::from(std::vector<std::uint8_t>{0, 128, 255}, {3});
  EXPECT_EQ(values_of(bytes.to(DType::kFloat64)), (std::vector<double>{0, 128, 255}));
  EXPECT_EQ(error_of([&] { x.to(DType::kInt32); }), "cast: cannot convert to int32");
}

TEST(autograd, tensor_errors_name_operation_and_shapes) {
  const Tensor x = filled({2, 3}, 0);
  EXPECT_EQ(error_of([&] { x.reshape({7}); }), "reshape: (2, 3) to (7)");
  EXPECT_EQ(error_of([&] { x.slice(4, {3}); }), "slice: (3) at 4 of (2, 3)");
  EXPECT_EQ(error_of([&] { x.slice(-1, {3}); }), "slice: (3) at -1 of (2, 3)");
  EXPECT_EQ(error_of([&] { x.dim(2); }), "tensor: axis 2 of shape (2, 3)");
  EXPECT_EQ(error_of([&] { x.dim(-3); }), "tensor: axis -3 of shape (2, 3)");
  EXPECT_EQ(error_of([&] { x.data<float>(); }), "tensor: expected float32, got float64");
  EXPECT_EQ(error_of([&] { x.copy_from(filled({3, 2}, 0)); }), "copy: expected float64(2, 3), got float64(3, 2)");
  EXPECT_EQ(error_of([&] { doubles({2, 2}, {1, 2, 3}); }), "tensor: shape (2, 2) holds 4 elements, got 3");
  EXPECT_EQ(error_of([&] { Tensor::empty({2, -1}, DType::kFloat32); }), "tensor: negative extent in shape (2, -1)");
  EXPECT_EQ(error_of([&] { Tensor().data<double>(); }), "tensor: no memory behind an undefined tensor");
  EXPECT_EQ(error_of([&] { x.set_grad(filled({5}, 0)); }),
            "set_grad: expected float64(2, 3) on cpu, got float64(5) on cpu");
}

TEST(autograd, tensor_gradient_takes_the_tensors_shape) {
  const Tensor x = filled({2, 3}, 0);
  EXPECT_FALSE(x.grad().defined());
  x.set_grad(doubles({6}, {1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(x.grad().shape(), (Shape{2, 3}));
  EXPECT_EQ(x.reshape({3, 2}).grad().shape(), (Shape{3, 2}));
}

}  // namespace
}  // namespace qm
