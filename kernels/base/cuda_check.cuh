// Checks around the CUDA runtime that keep the failing expression.
#pragma once

#include <cuda_runtime.h>

#include "kernels/base/error.h"

/// Throws CudaError with the expression and CUDA's words for what went wrong.
#define QM_CUDA_CHECK(expression)                                                                          \
  do {                                                                                                     \
    const cudaError_t qm_status = (expression);                                                            \
    if (qm_status != cudaSuccess) {                                                                        \
      throw ::qm::CudaError(                                                                               \
          ::qm::concat(#expression, ": ", cudaGetErrorName(qm_status), ", ", cudaGetErrorString(qm_status))); \
    }                                                                                                      \
  } while (false)
