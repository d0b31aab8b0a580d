#include "kernels/base/device.h"

namespace qm {

#ifdef QM_HAVE_CUDA

Stream current_stream(Device device) {
  return device.type == DeviceType::kCpu ? Stream{device, nullptr} : cuda::thread_stream(device);
}

void synchronize(const Stream& stream) {
  if (stream.device.type == DeviceType::kCuda) cuda::wait_for(stream);
}

int cuda_device_count() noexcept { return cuda::device_count(); }

#else

Stream current_stream(Device device) { return Stream{device, nullptr}; }

void synchronize(const Stream&) {}

int cuda_device_count() noexcept { return 0; }

#endif

void throw_no_backend(const char* op, Device device) {
  throw CudaError(concat(op, ": this build has no back-end for device ", device.name()));
}

void throw_cpu_only(const char* op) {
  throw ShapeError(concat(op, ": got float64 on a GPU; fp64 runs on the CPU only"));
}

void throw_gpu_only(const char* op) {
  throw ShapeError(concat(op, ": got bfloat16 on the CPU; bf16 runs on a GPU only"));
}

}  // namespace qm
