#include "launch/weights.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "kernels/base/dispatch.h"

namespace qm {
namespace {

/// "name: what differs; name: …"; empty if the tensors fit.
std::string differences(const std::map<std::string, Tensor>& tensors, const ParameterStore& parameters) {
  std::vector<std::string> mismatches;
  for (const auto& parameter : parameters.list()) {
    const auto found = tensors.find(parameter.name);
    if (found == tensors.end()) {
      mismatches.push_back(concat(parameter.name, ": missing in the file, ", to_string(parameter.shape), " in the model"));
    } else if (found->second.shape() != parameter.shape) {
      mismatches.push_back(concat(parameter.name, ": ", to_string(found->second.shape()), " in the file, ",
                             to_string(parameter.shape), " in the model"));
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (!parameters.find(name)) mismatches.push_back(concat(name, ": ", to_string(tensor.shape()), " only in the file"));
  }
  return listed(mismatches);
}

}  // namespace

std::string listed(const std::vector<std::string>& items) {
  constexpr std::size_t kShown = 8;
  std::string text;
  for (std::size_t i = 0; i < items.size() && i < kShown; ++i) text += (i == 0 ? "" : "; ") + items[i];
  if (items.size() > kShown) text += concat("; and ", items.size() - kShown, " more");
  return text;
}

std::vector<NamedTensor> named_tensors(const ParameterStore& parameters, const Tensor& flat) {
  std::vector<NamedTensor> tensors;
  for (const auto& parameter : parameters.list()) {
    const Tensor copy = Tensor::empty(parameter.shape, flat.dtype());
    copy.copy_from(ParameterStore::view(parameter, flat));
    tensors.push_back({parameter.name, copy});
  }
  return tensors;
}

std::vector<NamedTensor> named_views(const ParameterStore& parameters, const Tensor& flat) {
  std::vector<NamedTensor> tensors;
  for (const auto& parameter : parameters.list()) {
    tensors.push_back({parameter.name, ParameterStore::view(parameter, flat)});
  }
  return tensors;
}

void load_named_tensors(const std::vector<NamedTensor>& tensors, const ParameterStore& parameters, const Tensor& flat,
                        const std::string& what, const std::string& file) {
  std::map<std::string, Tensor> by_name;
  for (const auto& [name, tensor] : tensors) by_name[name] = tensor;
  const std::string mismatches = differences(by_name, parameters);
  QM_CHECK(mismatches.empty(), ConfigError, file, ": its ", what, " tensors do not fit this model: ", mismatches);
  for (const auto& parameter : parameters.list()) {
    const Tensor& source = by_name.at(parameter.name);
    ParameterStore::view(parameter, flat).copy_from(source.dtype() == flat.dtype() ? source : source.to(flat.dtype()));
  }
}

void check_all_finite(const std::vector<NamedTensor>& tensors, const std::string& what) {
  for (const NamedTensor& named : tensors) {
    visit_real(named.tensor.dtype(), "check_all_finite", [&]<class T>() {
      const T* values = named.tensor.data<T>();
      const bool finite =
          std::all_of(values, values + named.tensor.count(), [](T value) { return std::isfinite(value); });
      QM_CHECK(finite, Error, what, "/", named.name, " is not finite");
    });
  }
}

}  // namespace qm
