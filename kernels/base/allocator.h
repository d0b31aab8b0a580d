// Memory for tensors: a caching allocator a device, with statistics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/base/device.h"

namespace qm {

struct MemoryStats {
  std::size_t allocated = 0;  ///< bytes in use by live blocks
  std::size_t peak = 0;       ///< largest `allocated` since the last reset_peak()
  std::size_t reserved = 0;   ///< bytes held from the system, in use or cached
};

/// Hands out blocks aligned to 64 bytes and keeps freed ones for the next request of the same size class: a training
/// step asks for the same sizes every time, and fresh pages from the system cost more than the arithmetic on them.
/// Contents are undefined. Thread-safe.
///
/// A block belongs to the stream that is current when it is allocated: it may be freed while work on that stream still
/// uses it, but only after work on any other stream has ended.
class Allocator {
 public:
  virtual ~Allocator() = default;

  /// A block of at least `bytes` bytes (a valid pointer for 0 too). Throws OutOfMemory naming size, operation and device.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void deallocate(void* block) noexcept = 0;
  virtual MemoryStats stats() const = 0;
  virtual void reset_peak() = 0;
  /// Takes the blocks that are cached for the current stream out of circulation, until the handle is gone: a graph
  /// that has been captured goes on using them.
  virtual std::shared_ptr<void> reserve_free_blocks() = 0;
  /// Returns cached blocks to the system.
  virtual void release_cached() = 0;
};

/// From here on large blocks of the CPU's allocator are pinned, so that copies to a GPU go on beside everything else. For
/// a process that computes on a GPU; without one it does nothing.
void pin_host_memory();

/// The process-wide allocator of a device.
Allocator& allocator_for(Device device);

}  // namespace qm
