#include "launch/initial_weights.h"

#include <map>
#include <string_view>

#include "kernels/base/error.h"
#include "launch/model_file.h"
#include "launch/weights.h"

namespace qm {
namespace {

constexpr std::string_view kHead = "classifier.head.";

}  // namespace

std::vector<std::string> load_initial_weights(const std::string& file, const std::vector<std::string>& class_names,
                                              const ParameterStore& parameters, const Tensor& flat) {
  const Checkpoint checkpoint = read_checkpoint(file);
  const std::vector<NamedTensor>& weights = weights_of(checkpoint, "", file);
  const bool same_classes = checkpoint.class_names.empty() || checkpoint.class_names == class_names;
  std::map<std::string, Tensor> left;  // in the file, not taken yet
  for (const NamedTensor& named : weights) left[named.name] = named.tensor;

  std::vector<std::string> fresh, misfits;
  std::int64_t taken = 0, numbers = 0;
  for (const Parameter& parameter : parameters.list()) {
    const auto found = left.find(parameter.name);
    const bool is_head = std::string_view(parameter.name).starts_with(kHead);
    const bool fits = found != left.end() && found->second.shape() == parameter.shape;
    if (fits && (!is_head || same_classes)) {
      const Tensor& source = found->second;
      ParameterStore::view(parameter, flat)
          .copy_from(source.dtype() == flat.dtype() ? source : source.to(flat.dtype()));
      ++taken;
      numbers += parameter.count();
    } else {
      const std::string in_file = found == left.end() ? "missing in the file"
                                  : fits              ? "of other classes in the file"
                                                      : to_string(found->second.shape()) + " in the file";
      const std::string what = concat(parameter.name, ": ", in_file, ", ", to_string(parameter.shape), " in the model");
      (is_head ? fresh : misfits).push_back(what);
    }
    if (found != left.end()) left.erase(found);
  }
  QM_CHECK(misfits.empty(), ConfigError, file, ": its weights do not fit this model: ", listed(misfits));

  std::vector<std::string> report = {
      concat("initial weights from ", file, ": ", taken, " of ", parameters.list().size(), " parameters, ", numbers,
             " numbers, ", checkpoint.ema.empty() ? "model" : "EMA", " weights of step ", checkpoint.state.step)};
  for (const std::string& parameter : fresh) report.push_back("  initialised anew: " + parameter);
  for (const auto& [name, tensor] : left) {
    report.push_back(concat("  not taken: ", name, ": ", to_string(tensor.shape()), " only in the file"));
  }
  return report;
}

}  // namespace qm
