#include "kernels/base/graph.h"

#include "kernels/base/allocator.h"

namespace qm {

#ifdef QM_HAVE_CUDA

Event::Event(Device device) : device_(device) {
  if (device.type == DeviceType::kCuda) event_ = cuda::create_event(device);
}
Event::~Event() {
  if (event_) cuda::destroy_event(event_);
}
void Event::record(const Stream& stream) {
  if (event_) cuda::record_event(event_, stream);
}
void Event::hold(const Stream& stream) const {
  if (event_) cuda::hold_for_event(event_, stream);
}
void Event::wait() const {
  if (event_) cuda::wait_for_event(event_);
}
bool Event::reached() const { return !event_ || cuda::event_reached(event_); }

Stream copy_stream(Device device) {
  return device.type == DeviceType::kCpu ? Stream{device, nullptr} : cuda::thread_copy_stream(device);
}

Graph::Graph(const Stream& stream, const std::function<void()>& queue) : stream_(stream) {
  cuda::begin_capture(stream);
  try {
    queue();
  } catch (...) {
    cuda::end_capture(stream, false);
    throw;
  }
  executable_ = cuda::end_capture(stream, true);
  memory_ = allocator_for(stream.device).reserve_free_blocks();
}
Graph::~Graph() { cuda::destroy_graph(executable_); }
void Graph::launch() const { cuda::launch_graph(executable_, stream_); }

#else

Event::Event(Device device) : device_(device) {}
Event::~Event() = default;
void Event::record(const Stream&) {}
void Event::hold(const Stream&) const {}
void Event::wait() const {}
bool Event::reached() const { return true; }
Stream copy_stream(Device device) { return Stream{device, nullptr}; }
Graph::Graph(const Stream& stream, const std::function<void()>&) { throw_no_backend("graph", stream.device); }
Graph::~Graph() = default;
void Graph::launch() const {}

#endif

}  // namespace qm
