// Small networks for tests.
#pragma once

#include "layers/quadmamba.h"
#include "tests/support/tensors.h"

namespace qm {

/// A network with its parameters, ready to run.
struct TestModel {
  ParameterStore store;
  QuadMamba network;

  TestModel(const QuadMambaConfig& config, std::uint64_t seed, DType dtype = DType::kFloat64) : network(store, config) {
    store.allocate(dtype, Device{}, seed);
  }

  /// Moves every parameter away from its initial value, so that no bias is 0, no scale 1 and no branch close to
  /// nothing.
  void perturb(double amount) const {
    for (const auto& parameter : store.list()) {
      const Tensor shift = random_tensor(parameter.shape, 500 + static_cast<std::uint64_t>(parameter.offset));
      double* values = parameter.tensor.data<double>();
      for (std::int64_t i = 0; i < parameter.count(); ++i) values[i] += amount * shift.data<double>()[i];
    }
  }
};

inline QuadMambaConfig tiny_config() {
  return {.dim = 8, .depths = {1, 2, 1, 1}, .classes = 3};
}
inline constexpr std::int64_t kTinyQuadBlocks = 3;

}  // namespace qm
