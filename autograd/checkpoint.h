// Activation checkpointing: a part of the network is computed again in backward instead of keeping what it saved.
#pragma once

#include <functional>
#include <vector>

#include "autograd/tensor.h"

namespace qm {

/// body(inputs), recorded as one operation that keeps nothing but `inputs`; backward computes body again, recorded, and
/// goes back through that. `parameters` are the leaves that body uses: their gradients and hooks are as without.
///
/// body must compute the same numbers each time, so what it draws has to be keyed, and must not return an input.
/// Undefined inputs and outputs are allowed. Where no tape is recording this is body(inputs).
std::vector<Tensor> checkpoint(const std::vector<Tensor>& inputs, const std::vector<Tensor>& parameters,
                               const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& body);

}  // namespace qm
