// Checks that hold for any differentiable function of double tensors: its gradients are those of finite differences,
// and its results do not depend on the number of threads.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace qm {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// Computes the outputs from the inputs' present contents. Called many times; must give the same each time.
using TensorFunction = std::function<std::vector<Tensor>()>;

/// ∂⟨cotangents, function()⟩/∂input of every input, from the tape. Each input starts with a gradient that is not zero:
/// backward has to add to it.
std::vector<std::vector<double>> tape_gradients(const std::vector<NamedTensor>& inputs, const TensorFunction& function,
                                                const std::vector<Tensor>& cotangents);

/// ∂value/∂input of every element by central differences; restores the input.
std::vector<double> numeric_gradient(const Tensor& input, const std::function<double()>& value);

/// Whether every element of `actual` lies within max(1e-7 of the largest element of `expected`, `noise`) of it. The
/// text names `what`, the first elements that do not, and both numbers.
::testing::AssertionResult gradients_near(const std::string& what, const std::vector<double>& actual,
                                          const std::vector<double>& expected, double noise);

/// Compares the tape's gradients of all inputs with finite differences, element by element, under random cotangents.
::testing::AssertionResult gradients_match(const std::vector<NamedTensor>& inputs, const TensorFunction& function);

/// Rounding errors of a central difference of numbers whose terms have this sum of magnitudes.
double difference_noise(double magnitude);

/// Compares outputs and gradients under one, two and three OpenMP threads: bit for bit, or where `tolerance` is given
/// within that much of the largest element (for products in OpenBLAS, which cuts its sums by the number of threads).
::testing::AssertionResult independent_of_threads(const std::vector<NamedTensor>& inputs,
                                                  const TensorFunction& function, double tolerance = 0);

}  // namespace qm
