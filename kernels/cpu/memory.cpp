#include "kernels/memory.h"

#include <cstring>

namespace qm::cpu {
namespace {

template <class From, class To>
To convert(From value) {
  if constexpr (std::is_same_v<From, To>) {
    return value;
  } else if constexpr (std::is_same_v<To, bfloat16>) {
    return bfloat16(static_cast<float>(value));
  } else if constexpr (std::is_same_v<From, bfloat16>) {
    return static_cast<To>(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

template <class From, class To>
void cast_typed(const void* x, void* y, std::int64_t count) {
  const auto* from = static_cast<const From*>(x);
  auto* to = static_cast<To*>(y);
#pragma omp parallel for schedule(static) if (count > 65536)
  for (std::int64_t i = 0; i < count; ++i) to[i] = convert<From, To>(from[i]);
}

template <class From>
void cast_from(const void* x, DType to, void* y, std::int64_t count) {
  switch (to) {
    case DType::kFloat32: return cast_typed<From, float>(x, y, count);
    case DType::kFloat64: return cast_typed<From, double>(x, y, count);
    case DType::kBFloat16: return cast_typed<From, bfloat16>(x, y, count);
    default: throw ShapeError(concat("cast: cannot convert to ", name_of(to)));
  }
}

}  // namespace

void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void zero_bytes(void* data, std::size_t bytes) {
  if (bytes > 0) std::memset(data, 0, bytes);
}

void cast(DType from, const void* x, DType to, void* y, std::int64_t count) {
  switch (from) {
    case DType::kFloat32: return cast_from<float>(x, to, y, count);
    case DType::kFloat64: return cast_from<double>(x, to, y, count);
    case DType::kBFloat16: return cast_from<bfloat16>(x, to, y, count);
    case DType::kUInt8: return cast_from<std::uint8_t>(x, to, y, count);
    default: throw ShapeError(concat("cast: cannot convert from ", name_of(from)));
  }
}

template <class T>
void add_inplace(const T* x, T* y, std::int64_t count) {
#pragma omp parallel for simd schedule(static) if (count > 65536)
  for (std::int64_t i = 0; i < count; ++i) y[i] += x[i];
}

template void add_inplace(const float*, float*, std::int64_t);
template void add_inplace(const double*, double*, std::int64_t);

}  // namespace qm::cpu
