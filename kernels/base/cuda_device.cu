#include <mutex>
#include <vector>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/device.h"

namespace qm::cuda {
namespace {

/// The streams of one GPU that no thread holds. A thread's streams come back here when it ends: nothing is destroyed, as
/// cached memory still belongs to them, and the next thread goes on where they stand.
struct StreamPool {
  std::mutex mutex;
  std::vector<cudaStream_t> idle;
};

StreamPool& pool_of(int device) {
  // Never destroyed: threads may end after static objects have.
  static auto* pools = new std::vector<StreamPool>(static_cast<std::size_t>(device_count()));
  return pools->at(static_cast<std::size_t>(device));
}

/// The streams that a thread holds, by device; null where it has not asked for one yet.
class ThreadStreams {
 public:
  ~ThreadStreams() {
    for (std::size_t device = 0; device < streams_.size(); ++device) {
      if (!streams_[device]) continue;
      StreamPool& pool = pool_of(static_cast<int>(device));
      std::lock_guard lock(pool.mutex);
      pool.idle.push_back(streams_[device]);
    }
  }

  cudaStream_t get(Device device) {
    make_current(device);
    const auto index = static_cast<std::size_t>(device.index);
    if (streams_.size() <= index) streams_.resize(index + 1);
    if (!streams_[index]) streams_[index] = take(device.index);
    return streams_[index];
  }

 private:
  static cudaStream_t take(int device) {
    StreamPool& pool = pool_of(device);
    std::lock_guard lock(pool.mutex);
    cudaStream_t stream = nullptr;
    if (pool.idle.empty()) {
      QM_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    } else {
      stream = pool.idle.back();
      pool.idle.pop_back();
    }
    return stream;
  }

  std::vector<cudaStream_t> streams_;
};

}  // namespace

int device_count() noexcept {
  // Asked once: without a driver each question costs a search for it.
  static const int count = [] {
    int found = 0;
    if (cudaGetDeviceCount(&found) == cudaSuccess) return found;
    cudaGetLastError();  // what is not there is no error of a later call
    return 0;
  }();
  return count;
}

void make_current(Device device) {
  QM_CHECK(device.index >= 0 && device.index < device_count(), CudaError, "device ", device.name(), ": there are ",
           device_count(), " GPUs that this process can use");
  QM_CUDA_CHECK(cudaSetDevice(device.index));
}

Stream thread_stream(Device device) {
  thread_local ThreadStreams streams;
  return Stream{device, streams.get(device)};
}

void wait_for(const Stream& stream) {
  QM_CUDA_CHECK(cudaStreamSynchronize(static_cast<cudaStream_t>(stream.handle)));
}

}  // namespace qm::cuda
