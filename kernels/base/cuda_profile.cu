#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/profile.h"

namespace qm::cuda {

void start_profiler(const Stream& stream) {
  synchronize(stream);
  QM_CUDA_CHECK(cudaProfilerStart());
}

void stop_profiler(const Stream& stream) {
  synchronize(stream);
  QM_CUDA_CHECK(cudaProfilerStop());
}

void* record_mark(const Stream& stream) {
  make_current(stream.device);
  cudaEvent_t event = nullptr;
  QM_CUDA_CHECK(cudaEventCreate(&event));
  QM_CUDA_CHECK(cudaEventRecord(event, static_cast<cudaStream_t>(stream.handle)));
  return event;
}

double seconds_between(void* first, void* last) {
  float milliseconds = 0;
  QM_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(first), static_cast<cudaEvent_t>(last)));
  return milliseconds * 1e-3;
}

void destroy_mark(void* mark) noexcept { cudaEventDestroy(static_cast<cudaEvent_t>(mark)); }
void push_range(const char* name) noexcept { nvtxRangePushA(name); }
void pop_range() noexcept { nvtxRangePop(); }

}  // namespace qm::cuda
