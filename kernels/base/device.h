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

/// The stream that operations on `device` are queued on by this thread.
Stream current_stream(Device device);

/// Throws the one error every contract raises for a back-end that this build does not hold.
[[noreturn]] void throw_no_backend(const char* op, Device device);

}  // namespace qm
