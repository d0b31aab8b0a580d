#include "tests/support/gradient_check.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/tape.h"
#include "tests/support/tensors.h"
#include "tests/support/thread_count.h"

namespace qm {
namespace {

// The error of a central difference is h²/6 · f''' + (rounding of f) / h. With f''' of the order of f' (inputs are of
// order 1) h = 1e-5 makes the first some 1e-11 of the gradient, and the second is difference_noise. 1e-7 leaves room
// for functions that bend ten thousand times as much, and is far below what any wrong term of a formula would make.
constexpr double kStep = 1e-5;
constexpr double kRelativeTolerance = 1e-7;

double largest_magnitude(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

std::vector<Tensor> random_cotangents(const std::vector<Tensor>& outputs) {
  std::vector<Tensor> cotangents;
  for (const auto& output : outputs) cotangents.push_back(random_tensor(output.shape(), 1000 + cotangents.size()));
  return cotangents;
}

/// Σ over outputs of ⟨cotangent, output⟩, and in *magnitude the sum of the terms' absolute values.
double weighted_sum(const std::vector<Tensor>& outputs, const std::vector<Tensor>& cotangents,
                    double* magnitude = nullptr) {
  double sum = 0;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    for (std::int64_t j = 0; j < outputs[i].count(); ++j) {
      const double term = outputs[i].data<double>()[j] * cotangents[i].data<double>()[j];
      sum += term;
      if (magnitude) *magnitude += std::abs(term);
    }
  }
  return sum;
}

struct NamedValues {
  std::string name;
  std::vector<double> values;
};

/// Outputs and gradients of all inputs, computed by `threads` threads.
std::vector<NamedValues> results_with(int threads, const std::vector<NamedTensor>& inputs,
                                      const TensorFunction& function) {
  const ThreadCount count(threads);
  std::vector<NamedValues> results;
  const std::vector<Tensor> outputs = function();
  for (const auto& output : outputs) results.push_back({concat("output ", results.size()), values_of(output)});
  const auto gradients = tape_gradients(inputs, function, random_cotangents(outputs));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    results.push_back({concat("gradient of ", inputs[i].name), gradients[i]});
  }
  return results;
}

}  // namespace

std::vector<std::vector<double>> tape_gradients(const std::vector<NamedTensor>& inputs, const TensorFunction& function,
                                                const std::vector<Tensor>& cotangents) {
  std::vector<Tensor> before;
  for (const auto& input : inputs) {
    before.push_back(random_tensor(input.tensor.shape(), 2000 + before.size()));
    Tensor(input.tensor).set_requires_grad().set_grad(before.back().clone());
  }
  Tape tape;
  std::vector<Tensor> outputs;
  {
    Tape::Recording recording(tape);
    outputs = function();
  }
  tape.backward(outputs, cotangents);

  std::vector<std::vector<double>> gradients;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    std::vector<double> gradient = values_of(inputs[i].tensor.grad());
    for (std::size_t j = 0; j < gradient.size(); ++j) gradient[j] -= before[i].data<double>()[j];
    gradients.push_back(std::move(gradient));
    Tensor(inputs[i].tensor).set_requires_grad(false);
  }
  return gradients;
}

std::vector<double> numeric_gradient(const Tensor& input, const std::function<double()>& value) {
  std::vector<double> gradient;
  double* x = input.data<double>();
  for (std::int64_t i = 0; i < input.count(); ++i) {
    const double centre = x[i];
    const double above = centre + kStep, below = centre - kStep;
    x[i] = above;
    const double value_above = value();
    x[i] = below;
    const double value_below = value();
    x[i] = centre;
    gradient.push_back((value_above - value_below) / (above - below));  // the step as it was rounded
  }
  return gradient;
}

double difference_noise(double magnitude) {
  return 20 * std::numeric_limits<double>::epsilon() * magnitude / (2 * kStep);
}

::testing::AssertionResult gradients_near(const std::string& what, const std::vector<double>& actual,
                                          const std::vector<double>& expected, double noise) {
  if (actual.size() != expected.size()) {
    return ::testing::AssertionFailure() << what << ": " << actual.size() << " elements for " << expected.size();
  }
  const double bound = std::max(kRelativeTolerance * largest_magnitude(expected), noise);
  std::size_t wrong = 0;
  std::ostringstream text;
  text.precision(12);
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::abs(actual[i] - expected[i]) <= bound) continue;  // written so that NaN does not pass
    if (++wrong <= 5) text << "\n  " << what << "[" << i << "]: " << actual[i] << ", expected " << expected[i];
  }
  if (wrong == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << what << ": " << wrong << " of " << actual.size()
                                       << " elements are wrong by more than " << bound << text.str();
}

::testing::AssertionResult gradients_match(const std::vector<NamedTensor>& inputs, const TensorFunction& function) {
  const ThreadCount one(1);  // thousands of tiny calls: waking threads would cost more than the work
  const std::vector<Tensor> outputs = function();
  const std::vector<Tensor> cotangents = random_cotangents(outputs);
  double magnitude = 0;
  weighted_sum(outputs, cotangents, &magnitude);
  // tape_gradients subtracts a number of order 1 from every gradient: that rounds too.
  const double noise = difference_noise(magnitude + 1);

  const auto gradients = tape_gradients(inputs, function, cotangents);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto expected = numeric_gradient(inputs[i].tensor, [&] { return weighted_sum(function(), cotangents); });
    const auto result = gradients_near("gradient of " + inputs[i].name, gradients[i], expected, noise);
    if (!result) return result;
  }
  return ::testing::AssertionSuccess();
}

::testing::AssertionResult independent_of_threads(const std::vector<NamedTensor>& inputs,
                                                  const TensorFunction& function, double tolerance) {
  const auto expected = results_with(1, inputs, function);
  for (const int threads : {2, 3}) {
    const auto actual = results_with(threads, inputs, function);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double bound = tolerance * largest_magnitude(expected[i].values);
      for (std::size_t j = 0; j < expected[i].values.size(); ++j) {
        if (std::abs(actual[i].values[j] - expected[i].values[j]) <= bound) continue;
        return ::testing::AssertionFailure()
               << expected[i].name << "[" << j << "] with " << threads << " threads: " << actual[i].values[j]
               << ", with one: " << expected[i].values[j];
      }
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace qm
