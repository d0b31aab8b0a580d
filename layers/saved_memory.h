// What training keeps in memory, told before it is run.
#pragma once

#include "layers/quadmamba.h"

namespace qm {

/// Bytes that a training forward pass over `batch` images keeps for backward, rounded as the allocator rounds: nearly all
/// of a step's peak, which is reached where forward ends. With `checkpoint` (ForwardContext), what comes into each block
/// and the largest block's own, whose gradients' working memory is not counted.
double saved_bytes(const QuadMambaConfig& config, std::int64_t height, std::int64_t width, std::int64_t batch,
                   DType activations, bool checkpoint);

/// Bytes a parameter: value, gradient, two moments, average where one is kept, and the rounded copy for bfloat16.
double bytes_per_parameter(DType activations, bool averaged);

}  // namespace qm
