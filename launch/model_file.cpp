#include "launch/model_file.h"

#include "kernels/base/fault.h"
#include "launch/weights.h"

namespace qm {

const std::vector<NamedTensor>& weights_of(const Checkpoint& checkpoint, const std::string& weights,
                                           const std::string& file) {
  const bool has_ema = !checkpoint.ema.empty();
  QM_CHECK(weights != "ema" || has_ema, ConfigError, file, ": holds no EMA weights; use --weights model");
  return weights == "model" || !has_ema ? checkpoint.model : checkpoint.ema;
}

ModelFile load_model_file(const std::string& file, const std::string& weights, const std::string& device,
                          const Environment& environment, const std::vector<std::string>& overrides) {
  fault_point("load");
  ModelFile model{.checkpoint = read_checkpoint(file), .recipe = {}, .network = nullptr};
  model.recipe = Recipe::parse(model.checkpoint.recipe, file + " (its recipe)", overrides);
  // A model trained in bf16 evaluates on the CPU in fp32: its masters are float32.
  Precision& precision = model.recipe.precision;
  const Device place =
      choose_device(device, precision == Precision::kBf16 ? Precision::kFp32 : precision, environment);
  if (place.type == DeviceType::kCpu && precision == Precision::kBf16) precision = Precision::kFp32;
  model.network = std::make_unique<Network>(model.recipe, place);
  const ParameterStore& parameters = model.network->parameters;
  load_named_tensors(weights_of(model.checkpoint, weights, file), parameters, parameters.values(), "model", file);
  parameters.round();
  return model;
}

}  // namespace qm
