#include "kernels/base/caching_allocator.h"
#include "kernels/base/cuda_check.cuh"

namespace qm::cuda {
namespace {

class CudaAllocator final : public CachingAllocator {
 public:
  explicit CudaAllocator(Device device) : CachingAllocator(device), device_(device) {}

 private:
  void* acquire(std::size_t bytes) override {
    make_current(device_);
    void* block = nullptr;
    const cudaError_t status = cudaMalloc(&block, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // the runtime keeps the error for the next check, and this one is answered by the caller
      return nullptr;
    }
    QM_CUDA_CHECK(status);
    return block;
  }

  /// cudaFree waits for the device. Its status is an earlier kernel's failure, which the next check reports too.
  void release(void* block) noexcept override { cudaFree(block); }

  Device device_;
};

}  // namespace

void* pinned_memory(std::size_t bytes) {
  void* block = nullptr;
  if (cudaHostAlloc(&block, bytes, cudaHostAllocPortable) == cudaSuccess) return block;
  cudaGetLastError();
  return nullptr;
}

void free_pinned(void* block) noexcept { cudaFreeHost(block); }

Allocator& memory_of(Device device) {
  make_current(device);  // names a GPU that is not there
  // Never destroyed, as the CPU's.
  static auto* allocators = [] {
    auto* list = new std::vector<CudaAllocator*>;
    for (int index = 0; index < device_count(); ++index) {
      list->push_back(new CudaAllocator(Device{DeviceType::kCuda, index}));
    }
    return list;
  }();
  return *allocators->at(static_cast<std::size_t>(device.index));
}

}  // namespace qm::cuda
