#include "kernels/base/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace qm {
namespace {

constexpr std::size_t kAlignment = 64;

/// Eight classes an octave: at most an eighth of a block is wasted, and nearby sizes share blocks.
std::size_t size_class(std::size_t bytes) {
  bytes = std::max(bytes, kAlignment);
  const std::size_t step = std::max(std::bit_floor(bytes) / 8, kAlignment);
  return (bytes + step - 1) / step * step;
}

class CpuAllocator final : public Allocator {
 public:
  void* allocate(std::size_t bytes) override {
    const std::size_t size = size_class(bytes);
    std::lock_guard lock(mutex_);
    void* block = nullptr;
    if (auto& free_blocks = free_[size]; !free_blocks.empty()) {
      block = free_blocks.back();
      free_blocks.pop_back();
    } else {
      block = std::aligned_alloc(kAlignment, size);
      QM_CHECK(block != nullptr, Error, "out of memory: ", size, " bytes on cpu, ", stats_.allocated, " in use");
      stats_.reserved += size;
    }
    live_[block] = size;
    stats_.allocated += size;
    stats_.peak = std::max(stats_.peak, stats_.allocated);
    return block;
  }

  void deallocate(void* block) noexcept override {
    std::lock_guard lock(mutex_);
    const auto found = live_.find(block);
    stats_.allocated -= found->second;
    free_[found->second].push_back(block);
    live_.erase(found);
  }

  MemoryStats stats() const override {
    std::lock_guard lock(mutex_);
    return stats_;
  }

  void reset_peak() override {
    std::lock_guard lock(mutex_);
    stats_.peak = stats_.allocated;
  }

  void release_cached() override {
    std::lock_guard lock(mutex_);
    for (auto& [size, blocks] : free_) {
      for (void* block : blocks) std::free(block);
      stats_.reserved -= size * blocks.size();
      blocks.clear();
    }
  }

 private:
  mutable std::mutex mutex_;
  MemoryStats stats_;
  std::unordered_map<std::size_t, std::vector<void*>> free_;
  std::unordered_map<void*, std::size_t> live_;
};

}  // namespace

Allocator& allocator_for(Device device) {
  if (device.type != DeviceType::kCpu) throw_no_backend("allocator", device);
  // Never destroyed: tensors with static lifetime may outlive any order of destructors.
  static auto* cpu = new CpuAllocator;
  return *cpu;
}

}  // namespace qm
