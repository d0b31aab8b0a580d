#include "launch/self_test.h"

#include <cmath>
#include <cstdio>
#include <exception>
#include <limits>

#include "autograd/tape.h"
#include "kernels/base/philox.h"

namespace qm {
namespace {

struct Quantity {
  std::string name;
  std::vector<double> values;
};

bool is_real(const Tensor& tensor) {
  return tensor.dtype() == DType::kFloat64;
}

std::vector<double> doubles_of(const Tensor& tensor) {
  if (tensor.dtype() != DType::kInt32) return tensor.to(DType::kFloat64).to_vector<double>();
  const std::vector<std::int32_t> values = tensor.to_vector<std::int32_t>();
  return {values.begin(), values.end()};
}

/// Numbers in (−1, 1) that floats represent exactly, of their own for each output, as ∂loss/∂output.
Tensor cotangent(const Shape& shape, std::size_t output) {
  std::vector<double> values(static_cast<std::size_t>(count_of(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const PhiloxBlock random =
        philox(1, RandomPurpose::kSynthetic, 1, static_cast<std::uint32_t>(output), static_cast<std::uint32_t>(i));
    values[i] = 2 * uniform_open(random.word[0]) - 1;
  }
  return Tensor::from(values, shape);
}

/// The inputs as leaves. Gradients start at the input's own values: to add to them is not to overwrite them.
std::vector<Tensor> leaves_of(const std::vector<Tensor>& inputs, DType dtype, Device device) {
  std::vector<Tensor> leaves;
  for (const Tensor& input : inputs) {
    if (!is_real(input)) {
      leaves.push_back(input.to(device));
      continue;
    }
    Tensor leaf = input.to(dtype).to(device).clone();
    leaf.set_requires_grad().set_grad(leaf.clone());
    leaves.push_back(leaf);
  }
  return leaves;
}

/// The op's outputs and the gradients of its real inputs.
std::vector<Quantity> run(const OpCase& op, DType dtype, Device device) {
  const std::vector<Tensor> leaves = leaves_of(op.inputs, dtype, device);
  Tape tape;
  std::vector<Tensor> outputs, roots, grads;
  {
    const Tape::Recording recording(tape);
    outputs = op.op(leaves);
  }
  std::vector<Quantity> quantities;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    quantities.push_back({concat("output ", i), doubles_of(outputs[i])});
  }
  if (op.roots.empty()) return quantities;
  for (const std::size_t i : op.roots) {
    roots.push_back(outputs.at(i));
    grads.push_back(cotangent(outputs[i].shape(), i).to(dtype).to(device));
  }
  tape.backward(roots, grads);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (is_real(op.inputs[i])) quantities.push_back({concat("gradient ", i), doubles_of(leaves[i].grad())});
  }
  return quantities;
}

double norm_of(const std::vector<double>& values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

/// ‖error‖ / ‖reference‖, NaN where a number of either is.
double relative_error(const std::vector<double>& actual, const std::vector<double>& reference) {
  if (actual.size() != reference.size()) return std::numeric_limits<double>::infinity();
  std::vector<double> difference = actual;
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= reference[i];
  const double error = norm_of(difference);
  return error == 0 ? 0 : error / norm_of(reference);
}

std::string formatted_error(double error) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", error);
  return text;
}

}  // namespace

std::string OpResult::text() const {
  char line[64];
  std::snprintf(line, sizeof line, "%-24s%-8s", name.c_str(), passed() ? "ok" : "FAILED");
  return line + (passed() ? "max error " + formatted_error(error) : failure);
}

OpResult test_op(const OpCase& op, Device device) {
  OpResult result{op.name, 0, ""};
  try {
    const std::vector<Quantity> reference = run(op, DType::kFloat64, Device{});
    const std::vector<Quantity> actual = run(op, DType::kFloat32, device);
    for (std::size_t i = 0; i < reference.size(); ++i) {
      const double error = relative_error(actual.at(i).values, reference[i].values);
      if (error <= result.error) continue;
      result.error = error;
      if (error <= kSelfTestTolerance) continue;
      result.failure = concat(reference[i].name, " has error ", formatted_error(error));
      if (std::isnan(error)) break;  // nothing is larger
    }
  } catch (const std::exception& error) {
    result.failure = error.what();
  }
  return result;
}

}  // namespace qm
