// The cache that the allocators of all devices share; what differs is where memory comes from.
#pragma once

#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/base/allocator.h"

namespace qm {

/// Keeps freed blocks by size class and by the stream they were handed out on. Work on a stream runs in order, so a
/// block freed while its last kernel is still queued can be handed out again at once on the same stream, and only there.
class CachingAllocator : public Allocator {
 public:
  explicit CachingAllocator(Device device) : device_(device) {}

  void* allocate(std::size_t bytes) final;
  void deallocate(void* block) noexcept final;
  MemoryStats stats() const final;
  void reset_peak() final;
  std::shared_ptr<void> reserve_free_blocks() final;
  void release_cached() final;

  /// What a request of so many bytes takes.
  static std::size_t size_class(std::size_t bytes);

 protected:
  /// Memory from the system, aligned to kAlignment; null where there is no more. `bytes` is a multiple of kAlignment.
  virtual void* acquire(std::size_t bytes) = 0;
  /// Gives memory back once no work that is queued uses it any more.
  virtual void release(void* block) noexcept = 0;

  static constexpr std::size_t kAlignment = 64;

 private:
  struct Place {
    void* stream;
    std::size_t size;
    auto operator<=>(const Place&) const = default;
  };

  void* take(const Place& place);
  void release_free_blocks();

  Device device_;
  mutable std::mutex mutex_;
  MemoryStats stats_;
  std::map<Place, std::vector<void*>> free_;
  std::unordered_map<void*, Place> live_;
};

namespace cuda {
/// What allocator_for returns for a GPU.
Allocator& memory_of(Device device);
/// Host memory that the GPUs can copy from by themselves; null where there is no more.
void* pinned_memory(std::size_t bytes);
void free_pinned(void* block) noexcept;
}  // namespace cuda

}  // namespace qm
