// Row-major matrix products on cuBLASLt.
#pragma once

#include "kernels/cuda/launch.cuh"

namespace qm::cuda {

/// C (m, n) = op(A) op(B), C += op(A) op(B) if `adds`, plus bias (n) on every row unless that is null. A is stored as
/// (m, k), or (k, m) if transposed; B as (k, n), or (n, k) if transposed.
template <class T>
struct MatrixProduct {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k;
  const T* a;
  const T* b;
  const T* bias = nullptr;  ///< in C's type: cuBLASLt adds no float bias to a bfloat16 result
  bool adds = false;
};

/// Sums in float, and multiplies floats as floats: no TF32. Out is T or Real<T>. Throws CudaError naming the shape where
/// cuBLASLt has no algorithm.
template <class T, class Out>
void matmul(const Stream& stream, const MatrixProduct<T>& p, Out* c);

}  // namespace qm::cuda
