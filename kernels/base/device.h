// Where memory lives and where work is queued.
#pragma once

#include <string>

#include "kernels/base/error.h"

namespace qm {

enum class DeviceType { kCpu, kCuda };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;

  friend bool operator==(const Device&, const Device&) = default;
  std::string name() const { return type == DeviceType::kCpu ? "cpu" : concat("cuda:", index); }
};

/// An in-order queue of work on a device. On the CPU work runs at once, and `handle` is null; on CUDA `handle` is the
/// cudaStream_t.
struct Stream {
  Device device;
  void* handle = nullptr;
};

/// The stream that operations on `device` are queued on by this thread: one a thread and GPU, which waits for no other.
Stream current_stream(Device device);

/// Waits until everything queued on the stream has run. Throws CudaError if any of it failed.
void synchronize(const Stream& stream);

/// GPUs that this process can use: 0 in a build without CUDA and on a machine without GPU or driver.
int cuda_device_count() noexcept;

/// Throws the one error every contract raises for a back-end that this build does not hold.
[[noreturn]] void throw_no_backend(const char* op, Device device);
/// Throws the one error every contract raises for double on CUDA.
[[noreturn]] void throw_cpu_only(const char* op);
/// Throws the one error every contract raises for bfloat16 on the CPU.
[[noreturn]] void throw_gpu_only(const char* op);

/// The CUDA side of the functions above. Other names: a call from inside qm::cuda would find both.
namespace cuda {
int device_count() noexcept;
/// Makes `device` the one that this thread's CUDA calls go to. Throws CudaError where there is no such GPU.
void make_current(Device device);
Stream thread_stream(Device device);
void wait_for(const Stream& stream);
}  // namespace cuda

}  // namespace qm
