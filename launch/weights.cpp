#include "launch/weights.h"

#include <map>

namespace qm {
namespace {

/// One line a mismatch; empty if the tensors fit.
std::string differences(const std::map<std::string, Tensor>& tensors, const ParameterStore& parameters) {
  constexpr std::size_t kShown = 8;
  std::vector<std::string> lines;
  for (const auto& parameter : parameters.list()) {
    const auto found = tensors.find(parameter.name);
    if (found == tensors.end()) {
      lines.push_back(concat(parameter.name, ": missing in the file, ", to_string(parameter.shape), " in the model"));
    } else if (found->second.shape() != parameter.shape) {
      lines.push_back(concat(parameter.name, ": ", to_string(found->second.shape()), " in the file, ",
                             to_string(parameter.shape), " in the model"));
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (!parameters.find(name)) lines.push_back(concat(name, ": ", to_string(tensor.shape()), " only in the file"));
  }
  std::string text;
  for (std::size_t i = 0; i < lines.size() && i < kShown; ++i) text += "\n  " + lines[i];
  if (lines.size() > kShown) text += concat("\n  and ", lines.size() - kShown, " more");
  return text;
}

}  // namespace

std::vector<NamedTensor> named_tensors(const ParameterStore& parameters, const Tensor& flat) {
  std::vector<NamedTensor> tensors;
  for (const auto& parameter : parameters.list()) {
    const Tensor copy = Tensor::empty(parameter.shape, flat.dtype());
    copy.copy_from(ParameterStore::view(parameter, flat));
    tensors.push_back({parameter.name, copy});
  }
  return tensors;
}

void load_named_tensors(const std::vector<NamedTensor>& tensors, const ParameterStore& parameters, const Tensor& flat,
                        const std::string& what, const std::string& file) {
  std::map<std::string, Tensor> by_name;
  for (const auto& [name, tensor] : tensors) by_name[name] = tensor;
  const std::string mismatches = differences(by_name, parameters);
  QM_CHECK(mismatches.empty(), ConfigError, file, ": ", what, " does not fit this model:", mismatches);
  for (const auto& parameter : parameters.list()) {
    const Tensor& source = by_name.at(parameter.name);
    ParameterStore::view(parameter, flat).copy_from(source.dtype() == flat.dtype() ? source : source.to(flat.dtype()));
  }
}

}  // namespace qm
