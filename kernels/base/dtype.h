// Element types: their names, sizes, and the mapping to C++ types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "kernels/base/error.h"
#include "kernels/base/host_device.h"

namespace qm {

enum class DType : std::uint8_t { kFloat32, kFloat64, kBFloat16, kUInt8, kInt32, kInt64 };

/// The upper half of an IEEE float: a storage type. Arithmetic on it is done in float.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;

  /// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
  explicit bfloat16(float value) {
    std::uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    const bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;
    bits = is_nan ? static_cast<std::uint16_t>((word >> 16) | 0x40u)
                  : static_cast<std::uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
  }

  explicit operator float() const {
    const std::uint32_t word = static_cast<std::uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }
};

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct dtype_of<bfloat16> {
  static constexpr DType value = DType::kBFloat16;
};
template <>
struct dtype_of<std::uint8_t> {
  static constexpr DType value = DType::kUInt8;
};
template <>
struct dtype_of<std::int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct dtype_of<std::int64_t> {
  static constexpr DType value = DType::kInt64;
};
template <class T>
inline constexpr DType dtype_of_v = dtype_of<T>::value;

/// The type that an operation on T-valued activations computes in, and in which its parameters, statistics and parameter
/// gradients are held: float for bfloat16, else T itself.
template <class T>
struct real_of {
  using type = T;
};
template <>
struct real_of<bfloat16> {
  using type = float;
};
template <class T>
using Real = typename real_of<T>::type;

/// Bytes of one element.
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return 4;
    case DType::kFloat64: return 8;
    case DType::kBFloat16: return 2;
    case DType::kUInt8: return 1;
    case DType::kInt32: return 4;
    case DType::kInt64: return 8;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return "float32";
    case DType::kFloat64: return "float64";
    case DType::kBFloat16: return "bfloat16";
    case DType::kUInt8: return "uint8";
    case DType::kInt32: return "int32";
    case DType::kInt64: return "int64";
  }
  return "?";
}

/// The dtype of Real<T> for a T of this dtype.
constexpr DType real_dtype_of(DType dtype) { return dtype == DType::kBFloat16 ? DType::kFloat32 : dtype; }

/// Calls `body.template operator()<T>()` with the C++ type of a dtype that sums, parameters and statistics are held in:
/// float or double.
template <class Body>
decltype(auto) visit_real(DType dtype, const char* where, Body&& body) {
  switch (dtype) {
    case DType::kFloat32: return std::forward<Body>(body).template operator()<float>();
    case DType::kFloat64: return std::forward<Body>(body).template operator()<double>();
    default: throw ShapeError(concat(where, ": expected float32 or float64, got ", name_of(dtype)));
  }
}

/// The same for the dtypes that activations may have: those, and bfloat16, which only the CUDA back-end computes with.
template <class Body>
decltype(auto) visit_activation(DType dtype, const char* where, Body&& body) {
  if (dtype == DType::kBFloat16) return std::forward<Body>(body).template operator()<bfloat16>();
  return visit_real(dtype, where, std::forward<Body>(body));
}

}  // namespace qm
