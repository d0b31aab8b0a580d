// CPU side of kernels/memory.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/dtype.h"

namespace qm::cpu {

void copy_bytes(void* to, const void* from, std::size_t bytes);
void zero_bytes(void* data, std::size_t bytes);
void cast(DType from, const void* x, DType to, void* y, std::int64_t count);
template <class T>
void add_inplace(const T* x, T* y, std::int64_t count);

}  // namespace qm::cpu
