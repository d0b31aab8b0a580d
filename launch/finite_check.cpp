#include "launch/finite_check.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/error.h"

namespace qm {
namespace {

/// "layers.0.norm" of "layers.0.norm.weight".
std::string layer_of(const std::string& parameter) {
  return parameter.substr(0, parameter.rfind('.'));
}

}  // namespace

std::string not_finite_text(const Tensor& tensor) {
  if (!tensor.defined() || tensor.dtype() == DType::kUInt8 || tensor.dtype() == DType::kInt32 ||
      tensor.dtype() == DType::kInt64) {
    return "";
  }
  const std::vector<double> values = tensor.to(DType::kFloat64).to_vector<double>();
  const auto bad = std::ranges::count_if(values, [](double value) { return !std::isfinite(value); });
  if (bad == 0) return "";
  const bool nan = std::ranges::any_of(values, [](double value) { return std::isnan(value); });
  return concat(" is not finite: ", nan ? "NaN" : "infinity", " in ", bad, " of ", values.size(), " numbers");
}

void FiniteCheck::look_at_weights() {
  for (const Parameter& parameter : parameters_.list()) {
    if (!finding_.empty()) return;
    const std::string text = not_finite_text(ParameterStore::view(parameter, parameters_.values()));
    if (!text.empty()) finding_ = concat("model/", parameter.name, text, ", before the step");
  }
}

void FiniteCheck::watch(Tape& tape) {
  operations_.clear();
  tape.set_recorder([this](const char* name, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs) {
    after_forward(name, inputs, outputs);
  });
  tape.set_inspector([this](const char* name, const std::vector<Tensor>& grads) { after_backward(name, grads); });
}

void FiniteCheck::after_forward(const char* name, const std::vector<Tensor>& inputs,
                                const std::vector<Tensor>& outputs) {
  Operation operation{operations_.empty() ? "" : operations_.back().layer, {}};
  for (const Parameter& parameter : parameters_.list()) {
    const bool used = std::ranges::any_of(
        inputs, [&](const Tensor& input) { return input.defined() && input.raw() == parameter.tensor.raw(); });
    if (used) operation.weights.push_back(&parameter);
  }
  if (!operation.weights.empty()) {
    const std::string first = layer_of(operation.weights.front()->name);
    const std::string last = layer_of(operation.weights.back()->name);
    operation.layer = first == last ? first : concat(first, " to ", last);
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) look(inputs[i], operation.layer, concat("input ", i, " of ", name));
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    look(outputs[i], operation.layer, concat("output ", i, " of ", name));
  }
  operations_.push_back(std::move(operation));
}

/// Backward meets the operations in reverse order of recording, each once.
void FiniteCheck::after_backward(const char* name, const std::vector<Tensor>& grads) {
  const Operation operation = std::move(operations_.back());
  operations_.pop_back();
  for (std::size_t i = 0; i < grads.size(); ++i) {
    look(grads[i], operation.layer, concat("gradient of input ", i, " of ", name));
  }
  for (const Parameter* weight : operation.weights) {
    look(ParameterStore::view(*weight, parameters_.gradients()), operation.layer, "gradient of " + weight->name);
  }
}

void FiniteCheck::look(const Tensor& tensor, const std::string& layer, const std::string& what) {
  if (!finding_.empty()) return;
  const std::string text = not_finite_text(tensor);
  if (!text.empty()) finding_ = concat("layer ", layer, ": ", what, text);
}

}  // namespace qm
