#include "kernels/memory.h"

namespace qm {

void copy_bytes(const Stream& stream, void* to, Device to_device, const void* from, Device from_device,
                std::size_t bytes) {
  const Device cpu{};
  if (to_device == cpu && from_device == cpu) return cpu::copy_bytes(to, from, bytes);
  throw_no_backend("copy_bytes", stream.device);
}

void zero_bytes(const Stream& stream, void* data, std::size_t bytes) {
  if (stream.device.type == DeviceType::kCpu) return cpu::zero_bytes(data, bytes);
  throw_no_backend("zero_bytes", stream.device);
}

void cast(const Stream& stream, DType from, const void* x, DType to, void* y, std::int64_t count) {
  if (stream.device.type == DeviceType::kCpu) return cpu::cast(from, x, to, y, count);
  throw_no_backend("cast", stream.device);
}

template <class T>
void add_inplace(const Stream& stream, const T* x, T* y, std::int64_t count) {
  if (stream.device.type == DeviceType::kCpu) return cpu::add_inplace(x, y, count);
  throw_no_backend("add_inplace", stream.device);
}

template void add_inplace(const Stream&, const float*, float*, std::int64_t);
template void add_inplace(const Stream&, const double*, double*, std::int64_t);

}  // namespace qm
