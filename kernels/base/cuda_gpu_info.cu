#include <algorithm>
#include <array>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/device.h"
#include "kernels/base/gpu_info.h"

namespace qm::cuda {
namespace {

/// The architectures of this build, as 100 · major + 10 · minor.
constexpr std::array kArchitectures{__CUDA_ARCH_LIST__};

/// Asks nothing of the GPU: it is there to see whether a kernel of this build can be loaded.
__global__ void probe() {}

bool can_load_code() {
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, probe) == cudaSuccess) return true;
  cudaGetLastError();  // what cannot be loaded is no error of a later call
  return false;
}

/// Machine code runs on its own minor version and later ones of the same major.
GpuCode code_for(const GpuInfo& gpu) {
  if (!can_load_code()) return GpuCode::kNone;
  const bool has_machine_code = std::any_of(kArchitectures.begin(), kArchitectures.end(), [&](int architecture) {
    return architecture / 100 == gpu.major && architecture / 10 % 10 <= gpu.minor;
  });
  return has_machine_code ? GpuCode::kMachineCode : GpuCode::kPtx;
}

GpuInfo info_of(int index) {
  make_current(Device{DeviceType::kCuda, index});
  cudaDeviceProp properties;
  QM_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
  GpuInfo gpu{properties.name, properties.totalGlobalMem, properties.major, properties.minor, GpuCode::kNone};
  gpu.code = code_for(gpu);
  return gpu;
}

}  // namespace

CudaVersions versions() {
  CudaVersions versions{.toolkit = CUDART_VERSION};
  QM_CUDA_CHECK(cudaRuntimeGetVersion(&versions.runtime));
  QM_CUDA_CHECK(cudaDriverGetVersion(&versions.driver));
  return versions;
}

std::vector<GpuInfo> infos() {
  std::vector<GpuInfo> gpus;
  for (int index = 0; index < device_count(); ++index) gpus.push_back(info_of(index));
  return gpus;
}

}  // namespace qm::cuda
