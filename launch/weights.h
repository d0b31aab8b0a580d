// Between a model's flat buffers and the named tensors of a checkpoint.
#pragma once

#include <string>
#include <vector>

#include "data/checkpoint.h"
#include "layers/parameters.h"

namespace qm {

/// The first of them with "; " between, and how many more there are.
std::string listed(const std::vector<std::string>& items);

/// Copies on the CPU of every parameter's part of a flat buffer in the store's layout, under the parameters' names.
std::vector<NamedTensor> named_tensors(const ParameterStore& parameters, const Tensor& flat);

/// The same without copying: the tensors share the flat buffer's memory.
std::vector<NamedTensor> named_views(const ParameterStore& parameters, const Tensor& flat);

/// Copies named tensors into a flat buffer in the store's layout, converting between float32 and float64. Throws
/// ConfigError, in one line, with the names that only one side has and the shapes that differ; nothing is copied then.
/// `what` and `file` say in the error what was being loaded.
void load_named_tensors(const std::vector<NamedTensor>& tensors, const ParameterStore& parameters, const Tensor& flat,
                        const std::string& what, const std::string& file);

/// Throws Error if a tensor holds an infinity or a NaN: "`what`/name is not finite".
void check_all_finite(const std::vector<NamedTensor>& tensors, const std::string& what);

}  // namespace qm
