// gelu(v) = v Φ(v) and its derivative Φ(v) + v φ(v), with Φ(v) = (1 + erf(v/√2)) / 2 and φ(v) = exp(−v²/2) / √(2π).
#pragma once

#include <type_traits>

#include "kernels/cuda/tensor_core.cuh"

namespace qm::cuda {

/// For bfloat16: Φ(−z) of z = |v| as a power of two, so that what is next to nothing is right relatively too. The
/// exponent is a polynomial, fitted to log₂ Φ(−z) on [0, 8] so that its largest error is least: Φ(−z) to 3.4e-5
/// relatively, where bfloat16 rounds by up to 4e-3. Beyond 8 it stays at Φ(−8) = 6e-16.
struct NormalTail {
  float z, probability;

  __device__ __forceinline__ explicit NormalTail(float v) {
    constexpr float kTerms[] = {-1.26245902e-6f, 4.82033029e-5f, -8.07248289e-4f, 7.9445783e-3f,
                                -5.26353791e-2f, -0.459956855f,  -1.15060997f,    -1.00004303f};
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(fabsf(v)), "f"(8.0f));  // what is not a number stays none
    float exponent = kTerms[0];
#pragma unroll
    for (int i = 1; i < 8; ++i) exponent = exponent * z + kTerms[i];
    probability = exp2_fast(exponent);
  }
};

/// T: what activations are stored as.
template <class T>
__device__ __forceinline__ Real<T> gelu(Real<T> v) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    const NormalTail tail(v);
    return fmaxf(v, 0.0f) - tail.z * tail.probability;
  } else {
    return v * (0.5f * (1 + erff(v * 0.70710678f)));
  }
}

template <class T>
__device__ __forceinline__ Real<T> gelu_derivative(Real<T> v) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    constexpr float kHalfLog2E = 0.72134752f, kLog2RootTwoPi = 1.32574806f;
    const NormalTail tail(v);
    const float density = exp2_fast(-kHalfLog2E * tail.z * tail.z - kLog2RootTwoPi);
    const float of_negative = tail.probability - tail.z * density;
    return v < 0 ? of_negative : 1 - of_negative;
  } else {
    return 0.5f * (1 + erff(v * 0.70710678f)) + v * (0.39894228f * expf(-0.5f * v * v));
  }
}

}  // namespace qm::cuda
