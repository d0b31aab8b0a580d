// QM_HOST_DEVICE marks small functions that the CPU code and the CUDA kernels share.
#pragma once

#ifdef __CUDACC__
#define QM_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define QM_HOST_DEVICE inline
#endif
