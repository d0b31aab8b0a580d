// What CUDA says of itself and of this machine's GPUs. For reports: nothing computes by it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace qm {

/// What this build holds for a GPU.
enum class GpuCode {
  kMachineCode,
  kPtx,  ///< compiled for the GPU when the program starts
  kNone,
};

struct GpuInfo {
  std::string name;
  std::size_t memory = 0;    ///< bytes
  int major = 0, minor = 0;  ///< compute capability
  GpuCode code = GpuCode::kNone;
};

/// As CUDA counts: 1000 · major + 10 · minor; 0 where there is none.
struct CudaVersions {
  int toolkit = 0;  ///< that this program was compiled with
  int runtime = 0;  ///< that it runs with
  int driver = 0;   ///< the newest that the driver supports
};

/// All 0 in a build without CUDA.
CudaVersions cuda_versions();

/// The GPUs that this process can use, by index. Throws CudaError.
std::vector<GpuInfo> gpu_infos();

namespace cuda {
CudaVersions versions();
std::vector<GpuInfo> infos();
}  // namespace cuda

}  // namespace qm
