// Several neighbouring elements in one memory access.
#pragma once

#include "kernels/cuda/launch.cuh"

namespace qm::cuda {

/// N neighbouring elements. An array of them wants every row to begin at a multiple of N elements.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

template <int N, class T>
__device__ __forceinline__ void load_vector(const T* from, Real<T> (&to)[N]) {
  const auto vector = *reinterpret_cast<const Vector<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = to_real(vector.at[i]);
}

template <int N, class T>
__device__ __forceinline__ void store_vector(const Real<T> (&from)[N], T* to) {
  Vector<T, N> vector;
#pragma unroll
  for (int i = 0; i < N; ++i) vector.at[i] = from_real<T>(from[i]);
  *reinterpret_cast<Vector<T, N>*>(to) = vector;
}

/// Whether rows of `width` elements at each of the addresses, null or not, can be read as Vector<T, N>.
template <int N, class... T>
bool vectors_fit(std::int64_t width, const T*... rows) {
  return width % N == 0 && ((reinterpret_cast<std::uintptr_t>(rows) % (N * sizeof(T)) == 0) && ...);
}

}  // namespace qm::cuda
