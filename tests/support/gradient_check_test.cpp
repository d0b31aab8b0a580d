#include "tests/support/gradient_check.h"

#include <omp.h>

#include <cmath>

#include "autograd/tape.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

/// y = x³, whose backward multiplies by `factor` · x², wrong at one element by `slip`.
Tensor cube(const Tensor& x, double factor, double slip) {
  const Tensor y = Tensor::empty(x.shape(), x.dtype());
  for (std::int64_t i = 0; i < x.count(); ++i) {
    const double value = x.data<double>()[i];
    y.data<double>()[i] = value * value * value;
  }
  Tape::record("cube", {x}, {y}, [=](Backward& grad) {
    double* grad_x = grad.assign(0).data<double>();
    for (std::int64_t i = 0; i < x.count(); ++i) {
      const double value = x.data<double>()[i];
      grad_x[i] = grad.grad_output(0).data<double>()[i] * factor * value * value;
    }
    grad_x[2] += slip;
  });
  return y;
}

TEST(support, gradient_check_passes_a_right_backward) {
  const Tensor x = random_tensor({2, 3}, 1);
  EXPECT_TRUE(gradients_match({{"x", x}}, [&] { return std::vector{cube(x, 3, 0)}; }));
}

TEST(support, gradient_check_fails_on_a_wrong_factor) {
  const Tensor x = random_tensor({2, 3}, 1);
  EXPECT_FALSE(gradients_match({{"x", x}}, [&] { return std::vector{cube(x, 3.00001, 0)}; }));
}

TEST(support, gradient_check_names_input_and_element) {
  const Tensor x = random_tensor({2, 3}, 1), other = random_tensor({2, 3}, 2);
  const auto result = gradients_match({{"other", other}, {"x", x}}, [&] {
    return std::vector{cube(other, 3, 0), cube(x, 3, 1e-6)};
  });
  ASSERT_FALSE(result);
  EXPECT_NE(std::string(result.message()).find("gradient of x[2]: "), std::string::npos) << result.message();
  EXPECT_NE(std::string(result.message()).find("1 of 6"), std::string::npos) << result.message();
}

TEST(support, gradient_check_fails_where_a_gradient_is_missing) {
  const Tensor x = random_tensor({2, 3}, 1), w = random_tensor({2, 3}, 2);
  // The sum over x · w of an op that forgets w.
  const auto forgetful = [&] {
    const Tensor y = filled({1}, 0);
    for (int i = 0; i < 6; ++i) *y.data<double>() += x.data<double>()[i] * w.data<double>()[i];
    Tape::record("forgetful", {x, w}, {y}, [=](Backward& grad) {
      double* grad_x = grad.assign(0).data<double>();
      for (int i = 0; i < 6; ++i) grad_x[i] = *grad.grad_output(0).data<double>() * w.data<double>()[i];
    });
    return std::vector{y};
  };
  const auto result = gradients_match({{"x", x}, {"w", w}}, forgetful);
  ASSERT_FALSE(result);
  EXPECT_NE(std::string(result.message()).find("gradient of w"), std::string::npos) << result.message();
}

TEST(support, gradient_check_fails_on_nan) {
  EXPECT_FALSE(gradients_near("x", {std::nan("")}, {1.0}, 1e-9));
  EXPECT_FALSE(gradients_near("x", {1.0}, {std::nan("")}, 1e-9));
}

TEST(support, thread_check_fails_where_threads_show) {
  const Tensor x = filled({3}, 1);
  const auto shows_threads = [&] {
    const Tensor y = cube(x, 3, 0);
    y.data<double>()[1] += 1e-15 * omp_get_max_threads();
    return std::vector{y};
  };
  const auto result = independent_of_threads({{"x", x}}, shows_threads);
  ASSERT_FALSE(result);
  EXPECT_NE(std::string(result.message()).find("output 0[1] with 2 threads"), std::string::npos) << result.message();
  EXPECT_TRUE(independent_of_threads({{"x", x}}, shows_threads, 1e-13));
  EXPECT_TRUE(independent_of_threads({{"x", x}}, [&] { return std::vector{cube(x, 3, 0)}; }));
}

}  // namespace
}  // namespace qm
