#include "kernels/memory.h"

#include <algorithm>
#include <type_traits>

#include "kernels/base/profile.h"

namespace qm {

void copy_bytes(const Stream& stream, void* to, Device to_device, const void* from, Device from_device,
                std::size_t bytes) {
  const Device cpu{};
  if (to_device == cpu && from_device == cpu) return cpu::copy_bytes(to, from, bytes);
#ifdef QM_HAVE_CUDA
  const Device gpu = to_device == cpu ? from_device : to_device;
  const Stream used = stream.device == gpu ? stream : current_stream(gpu);
  const OpRange range(used, "copy_bytes", {.bytes = 2.0 * static_cast<double>(bytes)});
  cuda::copy_bytes(used, to, to_device, from, from_device, bytes);
#else
  throw_no_backend("copy_bytes", stream.device);
#endif
}

void copy_ahead(const Stream& stream, void* to, const void* from, std::size_t bytes) {
  if (stream.device.type == DeviceType::kCpu) return cpu::copy_bytes(to, from, bytes);
#ifdef QM_HAVE_CUDA
  cuda::make_current(stream.device);
  cuda::copy_ahead(stream, to, from, bytes);
#else
  throw_no_backend("copy_ahead", stream.device);
#endif
}

void fill(const Stream& stream, DType dtype, double value, void* y, std::int64_t count) {
  visit_real(dtype, "fill", [&]<class T>() {
    if (stream.device.type == DeviceType::kCpu) std::fill_n(static_cast<T*>(y), count, static_cast<T>(value));
  });
  if (stream.device.type == DeviceType::kCpu) return;
#ifdef QM_HAVE_CUDA
  cuda::make_current(stream.device);
  cuda::fill(stream, dtype, value, y, count);
#else
  throw_no_backend("fill", stream.device);
#endif
}

void zero_bytes(const Stream& stream, void* data, std::size_t bytes) {
  if (stream.device.type == DeviceType::kCpu) return cpu::zero_bytes(data, bytes);
#ifdef QM_HAVE_CUDA
  cuda::make_current(stream.device);
  const OpRange range(stream, "zero_bytes", {.bytes = static_cast<double>(bytes)});
  cuda::zero_bytes(stream, data, bytes);
#else
  throw_no_backend("zero_bytes", stream.device);
#endif
}

void cast(const Stream& stream, DType from, const void* x, DType to, void* y, std::int64_t count) {
  if (stream.device.type == DeviceType::kCpu) return cpu::cast(from, x, to, y, count);
#ifdef QM_HAVE_CUDA
  cuda::make_current(stream.device);
  const OpRange range(stream, "cast", {.bytes = static_cast<double>(count) * static_cast<double>(size_of(from) + size_of(to))});
  cuda::cast(stream, from, x, to, y, count);
#else
  throw_no_backend("cast", stream.device);
#endif
}

template <class T>
void add_inplace(const Stream& stream, const T* x, T* y, std::int64_t count) {
  if constexpr (!std::is_same_v<T, bfloat16>) {
    if (stream.device.type == DeviceType::kCpu) return cpu::add_inplace(x, y, count);
  }
  if (stream.device.type == DeviceType::kCpu) throw_gpu_only("add_inplace");
#ifdef QM_HAVE_CUDA
  cuda::make_current(stream.device);
  const OpRange range(stream, "add_inplace", {.bytes = 3.0 * static_cast<double>(count) * sizeof(T)});
  cuda::add_inplace(stream, x, y, count);
#else
  throw_no_backend("add_inplace", stream.device);
#endif
}

template void add_inplace(const Stream&, const float*, float*, std::int64_t);
template void add_inplace(const Stream&, const double*, double*, std::int64_t);
template void add_inplace(const Stream&, const bfloat16*, bfloat16*, std::int64_t);

}  // namespace qm
