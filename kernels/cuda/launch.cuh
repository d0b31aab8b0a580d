// What every CUDA source needs: element access, launch geometry and checks, scratch memory.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/base/allocator.h"
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm::cuda {

// ---- elements --------------------------------------------------------------------------------------------------------

/// A stored activation as the number that is computed with.
__device__ __forceinline__ float to_real(float value) { return value; }
__device__ __forceinline__ double to_real(double value) { return value; }
__device__ __forceinline__ float to_real(bfloat16 value) { return __bfloat162float(__ushort_as_bfloat16(value.bits)); }

/// A computed number as it is stored: from_real<T>(value).
template <class T>
__device__ __forceinline__ T from_real(Real<T> value) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    bfloat16 rounded;
    rounded.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
    return rounded;
  } else {
    return value;
  }
}

// ---- launches --------------------------------------------------------------------------------------------------------

inline constexpr int kWarp = 32;
inline constexpr int kBlock = 256;  ///< threads a block of kernels that have no shape of their own

inline cudaStream_t native(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle); }

QM_HOST_DEVICE constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Blocks of `threads` threads that give each of `count` items a thread.
inline unsigned int blocks_for(std::int64_t count, int threads = kBlock) {
  const std::int64_t blocks = ceil_div(count, threads);
  QM_CHECK(blocks <= 0x7fffffff, ShapeError, "launch: ", count, " items are beyond a grid of ", threads,
           " threads a block");
  return static_cast<unsigned int>(blocks);
}

/// A thread's index over a one-dimensional grid.
__device__ __forceinline__ std::int64_t global_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

/// To be called after every launch.
inline void check_launch(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  QM_CHECK(status == cudaSuccess, CudaError, "launch of ", kernel, ": ", cudaGetErrorName(status), ", ",
           cudaGetErrorString(status));
}

// ---- scratch ---------------------------------------------------------------------------------------------------------

/// Device memory for the intermediate results of one op. It goes back to the cache at the end of the launcher's scope,
/// before its kernels have run: whatever gets it next is queued behind them on the same stream.
template <class T>
class Scratch {
 public:
  Scratch(const Stream& stream, std::int64_t count)
      : allocator_(allocator_for(stream.device)),
        data_(static_cast<T*>(allocator_.allocate(static_cast<std::size_t>(count) * sizeof(T)))) {}
  ~Scratch() { allocator_.deallocate(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return data_; }

 private:
  Allocator& allocator_;
  T* data_;
};

}  // namespace qm::cuda
