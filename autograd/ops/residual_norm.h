// Residual + drop path, and the LayerNorm that follows (kernels/residual_norm.h).
#pragma once

#include "autograd/tensor.h"
#include "kernels/residual_norm.h"

namespace qm {

struct ResidualNorm {
  Tensor stream;  ///< stream + s · branch
  Tensor y;       ///< its LayerNorm; undefined without weights
};

/// stream, branch (B, …, C), weight and bias (C), or both undefined for the sum alone. Saves the new stream, and mean and
/// rstd of each row.
ResidualNorm residual_norm(const Tensor& stream, const Tensor& branch, const DropPathSite& drop_path,
                           const Tensor& weight, const Tensor& bias);

}  // namespace qm
