#include "kernels/base/gpu_info.h"

namespace qm {

#ifdef QM_HAVE_CUDA

CudaVersions cuda_versions() {
  return cuda::versions();
}

std::vector<GpuInfo> gpu_infos() {
  return cuda::infos();
}

#else

CudaVersions cuda_versions() {
  return {};
}

std::vector<GpuInfo> gpu_infos() {
  return {};
}

#endif

}  // namespace qm
