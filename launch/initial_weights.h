// Fine-tuning: a run that starts from the weights of another.
#pragma once

#include <string>
#include <vector>

#include "data/checkpoint.h"
#include "layers/parameters.h"

namespace qm {

/// Copies a checkpoint's weights (EMA where it has one) into `flat`, in the store's layout. The head
/// (classifier.head.*) keeps its initial values where the classes are others, by number or by name.
///
/// Returns what was and what was not taken, a line each. Throws ConfigError naming the file and what does not fit if
/// anything but the head of the model would be left at its initial values.
std::vector<std::string> load_initial_weights(const std::string& file, const std::vector<std::string>& class_names,
                                              const ParameterStore& parameters, const Tensor& flat);

}  // namespace qm
