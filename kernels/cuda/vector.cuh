// Several neighbouring elements in one memory access.
#pragma once

#include <type_traits>

#include "kernels/cuda/launch.cuh"

namespace qm::cuda {

/// Two numbers rounded to bfloat16, `low` in the lower half.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

/// N neighbouring elements as they lie in memory, which is read and written 16 bytes at a time where there are as many.
/// Rows of an array of them have to begin at a multiple of N elements.
///
/// They are kept as words and taken apart when they are used: a variable of two bytes would be, and so waited for, as
/// soon as it is loaded.
template <class T, int N>
class Vector {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, bfloat16>);

 public:
  /// Zeros.
  Vector() = default;

  __device__ __forceinline__ static Vector load(const T* from) {
    Vector vector;
    if constexpr (kBytes == 2) {
      vector.word_[0] = *reinterpret_cast<const std::uint16_t*>(from);
    } else {
#pragma unroll
      for (int i = 0; i < kAccesses; ++i) {
        reinterpret_cast<Access*>(vector.word_)[i] = reinterpret_cast<const Access*>(from)[i];
      }
    }
    return vector;
  }
  __device__ __forceinline__ static Vector of(const float (&numbers)[N]) {
    Vector vector;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if constexpr (std::is_same_v<T, float>) {
        vector.word_[i] = __float_as_uint(numbers[i]);
      } else if (i % 2 == 0) {
        vector.word_[i / 2] = pack_bf16(numbers[i], i + 1 < N ? numbers[i + 1] : 0.0f);
      }
    }
    return vector;
  }

  __device__ __forceinline__ void store(T* to) const {
    if constexpr (kBytes == 2) {
      *reinterpret_cast<std::uint16_t*>(to) = static_cast<std::uint16_t>(word_[0]);
    } else {
#pragma unroll
      for (int i = 0; i < kAccesses; ++i) reinterpret_cast<Access*>(to)[i] = reinterpret_cast<const Access*>(word_)[i];
    }
  }

  __device__ __forceinline__ float operator[](int i) const {
    if constexpr (std::is_same_v<T, float>) return __uint_as_float(word_[i]);
    return __uint_as_float(i % 2 == 0 ? word_[i / 2] << 16 : word_[i / 2] & 0xffff0000u);
  }

 private:
  static constexpr int kBytes = N * static_cast<int>(sizeof(T));
  using Access = std::conditional_t<kBytes % 16 == 0, uint4, std::conditional_t<kBytes % 8 == 0, uint2, std::uint32_t>>;
  static constexpr int kAccesses = kBytes / static_cast<int>(sizeof(Access));
  static_assert(kBytes == 2 || kBytes % 4 == 0);

  alignas(Access) std::uint32_t word_[kBytes == 2 ? 1 : kBytes / 4] = {};
};

template <int N, class T>
__device__ __forceinline__ void load_vector(const T* from, float (&to)[N]) {
  const Vector<T, N> vector = Vector<T, N>::load(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = vector[i];
}

template <int N, class T>
__device__ __forceinline__ void store_vector(const float (&from)[N], T* to) {
  Vector<T, N>::of(from).store(to);
}

/// Whether rows of `width` elements at each of the addresses, null or not, can be read as Vector<T, N>.
template <int N, class... T>
bool vectors_fit(std::int64_t width, const T*... rows) {
  return width % N == 0 && ((reinterpret_cast<std::uintptr_t>(rows) % (N * sizeof(T)) == 0) && ...);
}

}  // namespace qm::cuda
