// Moving and setting memory: copy, fill, cast, add. No op of the network; the tape and the trainer need them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"

namespace qm {

/// Copies `bytes` bytes between devices; ordered on `stream`, or on the GPU's current stream where `stream` is another
/// device's. The ranges must not overlap. On return `from` may be changed if it is on the CPU, and `to` read if it is:
/// only a copy from a GPU to the CPU or to another GPU waits for the GPU.
void copy_bytes(const Stream& stream, void* to, Device to_device, const void* from, Device from_device,
                std::size_t bytes);

/// The same from the CPU to a GPU, in the order of `stream` alone: `from` may not change before its work is done. Beside
/// the computation only from pinned memory (pin_host_memory); else the call may wait for the copy.
void copy_ahead(const Stream& stream, void* to, const void* from, std::size_t bytes);

/// Sets every byte to 0.
void zero_bytes(const Stream& stream, void* data, std::size_t bytes);

/// y[i] = (To) x[i], round to nearest even. float32, float64 and bfloat16 in any combination, uint8 → real.
void cast(const Stream& stream, DType from, const void* x, DType to, void* y, std::int64_t count);

/// y[i] = value; float32 or float64.
void fill(const Stream& stream, DType dtype, double value, void* y, std::int64_t count);

/// y[i] += x[i]; T is float, double or, on a GPU, bfloat16.
template <class T>
void add_inplace(const Stream& stream, const T* x, T* y, std::int64_t count);

namespace cpu {
void copy_bytes(void* to, const void* from, std::size_t bytes);
void zero_bytes(void* data, std::size_t bytes);
void cast(DType from, const void* x, DType to, void* y, std::int64_t count);
template <class T>
void add_inplace(const T* x, T* y, std::int64_t count);
}  // namespace cpu

namespace cuda {
void copy_ahead(const Stream& stream, void* to, const void* from, std::size_t bytes);
void fill(const Stream& stream, DType dtype, double value, void* y, std::int64_t count);
void copy_bytes(const Stream& stream, void* to, Device to_device, const void* from, Device from_device,
                std::size_t bytes);
void zero_bytes(const Stream& stream, void* data, std::size_t bytes);
void cast(const Stream& stream, DType from, const void* x, DType to, void* y, std::int64_t count);
template <class T>
void add_inplace(const Stream& stream, const T* x, T* y, std::int64_t count);
}  // namespace cuda

}  // namespace qm
