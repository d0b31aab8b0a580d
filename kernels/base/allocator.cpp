#include "kernels/base/allocator.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <set>
#include <utility>

#include "kernels/base/caching_allocator.h"
#include "kernels/base/current_op.h"
#include "kernels/base/error.h"

namespace qm {

// ---- the cache -------------------------------------------------------------------------------------------------------

/// Eight classes an octave: at most an eighth of a block is wasted, and nearby sizes share blocks.
std::size_t CachingAllocator::size_class(std::size_t bytes) {
  bytes = std::max(bytes, kAlignment);
  const std::size_t step = std::max(std::bit_floor(bytes) / 8, kAlignment);
  return (bytes + step - 1) / step * step;
}

void* CachingAllocator::allocate(std::size_t bytes) {
  const Place place{current_stream(device_).handle, size_class(bytes)};
  std::lock_guard lock(mutex_);
  void* block = take(place);
  live_[block] = place;
  stats_.allocated += place.size;
  stats_.peak = std::max(stats_.peak, stats_.allocated);
  return block;
}

void* CachingAllocator::take(const Place& place) {
  if (auto& blocks = free_[place]; !blocks.empty()) {
    void* block = blocks.back();
    blocks.pop_back();
    return block;
  }
  void* block = acquire(place.size);
  if (!block) {
    release_free_blocks();
    block = acquire(place.size);
  }
  if (!block) {
    const std::string op = CurrentOp::describe();
    throw OutOfMemory(concat("out of memory: ", place.size, " bytes", op.empty() ? "" : " for " + op, " on ",
                             device_.name(), ", where ", stats_.allocated, " are in use"));
  }
  stats_.reserved += place.size;
  return block;
}

void CachingAllocator::deallocate(void* block) noexcept {
  std::lock_guard lock(mutex_);
  const auto found = live_.find(block);
  stats_.allocated -= found->second.size;
  free_[found->second].push_back(block);
  live_.erase(found);
}

MemoryStats CachingAllocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak = stats_.allocated;
}

std::shared_ptr<void> CachingAllocator::reserve_free_blocks() {
  const void* stream = current_stream(device_).handle;
  auto reserved = std::make_unique<std::map<Place, std::vector<void*>>>();
  std::lock_guard lock(mutex_);
  for (auto& [place, blocks] : free_) {
    if (place.stream == stream) (*reserved)[place] = std::exchange(blocks, {});
  }
  return std::shared_ptr<void>(reserved.release(), [this](void* pointer) {
    const std::unique_ptr<std::map<Place, std::vector<void*>>> all(
        static_cast<std::map<Place, std::vector<void*>>*>(pointer));
    std::lock_guard back(mutex_);
    for (auto& [place, blocks] : *all) free_[place].insert(free_[place].end(), blocks.begin(), blocks.end());
  });
}

void CachingAllocator::release_cached() {
  std::lock_guard lock(mutex_);
  release_free_blocks();
}

void CachingAllocator::release_free_blocks() {
  for (auto& [place, blocks] : free_) {
    for (void* block : blocks) release(block);
    stats_.reserved -= place.size * blocks.size();
    blocks.clear();
  }
}

// ---- devices ---------------------------------------------------------------------------------------------------------

namespace {

constexpr std::size_t kSmallestPinned = std::size_t{1} << 20;
std::atomic<bool> pinning = false;

class CpuAllocator final : public CachingAllocator {
 public:
  CpuAllocator() : CachingAllocator(Device{}) {}

 private:
  void* acquire(std::size_t bytes) override {
#ifdef QM_HAVE_CUDA
    if (pinning && bytes >= kSmallestPinned) {
      void* block = cuda::pinned_memory(bytes);
      if (block) pinned_.insert(block);
      return block;
    }
#endif
    return std::aligned_alloc(kAlignment, bytes);
  }
  void release(void* block) noexcept override {
#ifdef QM_HAVE_CUDA
    if (pinned_.erase(block) > 0) return cuda::free_pinned(block);
#endif
    std::free(block);
  }

  std::set<void*> pinned_;  // changed under the cache's lock
};

}  // namespace

void pin_host_memory() { pinning = cuda_device_count() > 0; }

Allocator& allocator_for(Device device) {
  if (device.type == DeviceType::kCpu) {
    // Never destroyed: tensors with static lifetime may outlive any order of destructors.
    static auto* cpu = new CpuAllocator;
    return *cpu;
  }
#ifdef QM_HAVE_CUDA
  return cuda::memory_of(device);
#else
  throw_no_backend("allocator", device);
#endif
}

}  // namespace qm
