// Sums and maxima of a warp and of a block. Their order is fixed, so two runs give the same bits.
#pragma once

#include "kernels/cuda/launch.cuh"

namespace qm::cuda {

/// The sum over the warp, in every lane: a butterfly, whose partial sums are the same from either side.
template <class R>
__device__ __forceinline__ R warp_sum(R value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

template <class R>
__device__ __forceinline__ R warp_max(R value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const R other = __shfl_xor_sync(0xffffffffu, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

/// The sum over a block of kBlock threads, in every thread; all of them must call it.
template <class R>
__device__ __forceinline__ R block_sum(R value) {
  __shared__ R of_warp[kBlock / kWarp];
  value = warp_sum(value);
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = value;
  __syncthreads();
  R total = 0;
  for (int warp = 0; warp < kBlock / kWarp; ++warp) total += of_warp[warp];
  __syncthreads();  // the next call may write
  return total;
}

/// The largest value of a block of kBlock threads, in every thread; all of them must call it.
template <class R>
__device__ __forceinline__ R block_max(R value) {
  __shared__ R of_warp[kBlock / kWarp];
  value = warp_max(value);
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = value;
  __syncthreads();
  R largest = of_warp[0];
  for (int warp = 1; warp < kBlock / kWarp; ++warp) largest = of_warp[warp] > largest ? of_warp[warp] : largest;
  __syncthreads();
  return largest;
}

}  // namespace qm::cuda
