// Ordering work between streams, and replaying it: events and graphs. On the CPU, where work runs at once, all of it is
// trivial.
#pragma once

#include <functional>
#include <memory>

#include "kernels/base/device.h"

namespace qm {

/// A point in the work queued on a stream.
class Event {
 public:
  explicit Event(Device device);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// Moves the point to after what is queued on `stream` now.
  void record(const Stream& stream);
  /// Work queued on `stream` from here on starts after the point.
  void hold(const Stream& stream) const;
  /// Returns once the point is reached; at once if it was never recorded.
  void wait() const;
  /// Whether the point is reached, without waiting for it; true if it was never recorded.
  bool reached() const;

 private:
  Device device_;
  void* event_ = nullptr;
};

/// A second stream of this thread, for copies that go on beside the computation.
Stream copy_stream(Device device);

/// Work recorded once and replayed as a whole, with the same kernels on the same memory.
class Graph {
 public:
  /// Records what `queue` queues on `stream`, without running it. `queue` must not wait for the device and finds the memory it
  /// needs in the allocator's cache: run it as it is before. The blocks it used stay reserved as long as the graph lives.
  /// CUDA only. Throws CudaError.
  Graph(const Stream& stream, const std::function<void()>& queue);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch() const;

 private:
  Stream stream_;
  void* executable_ = nullptr;
  std::shared_ptr<void> memory_;
};

namespace cuda {
void* create_event(Device device);
void destroy_event(void* event) noexcept;
void record_event(void* event, const Stream& stream);
void hold_for_event(void* event, const Stream& stream);
void wait_for_event(void* event);
bool event_reached(void* event);
Stream thread_copy_stream(Device device);
void begin_capture(const Stream& stream);
/// Null where the capture failed and `required` is not set.
void* end_capture(const Stream& stream, bool required);
void launch_graph(void* executable, const Stream& stream);
void destroy_graph(void* executable) noexcept;
}  // namespace cuda

}  // namespace qm
