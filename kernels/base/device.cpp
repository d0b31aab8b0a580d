#include "kernels/base/device.h"

namespace qm {

Stream current_stream(Device device) { return Stream{device, nullptr}; }

void throw_no_backend(const char* op, Device device) {
  throw CudaError(concat(op, ": this build has no back-end for device ", device.name()));
}

}  // namespace qm
