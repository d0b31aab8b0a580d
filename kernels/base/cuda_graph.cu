#include <vector>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/graph.h"

namespace qm::cuda {
namespace {

cudaStream_t native(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle); }
cudaEvent_t as_event(void* event) { return static_cast<cudaEvent_t>(event); }

}  // namespace

void* create_event(Device device) {
  make_current(device);
  cudaEvent_t event = nullptr;
  QM_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}
void destroy_event(void* event) noexcept { cudaEventDestroy(as_event(event)); }
void record_event(void* event, const Stream& stream) { QM_CUDA_CHECK(cudaEventRecord(as_event(event), native(stream))); }
void hold_for_event(void* event, const Stream& stream) {
  QM_CUDA_CHECK(cudaStreamWaitEvent(native(stream), as_event(event), 0));
}
void wait_for_event(void* event) { QM_CUDA_CHECK(cudaEventSynchronize(as_event(event))); }
bool event_reached(void* event) {
  const cudaError_t status = cudaEventQuery(as_event(event));
  if (status == cudaErrorNotReady) return false;
  QM_CUDA_CHECK(status);
  return true;
}

Stream thread_copy_stream(Device device) {
  make_current(device);
  thread_local std::vector<cudaStream_t> streams;  // not given back: few threads copy, and for as long as they live
  const auto index = static_cast<std::size_t>(device.index);
  if (streams.size() <= index) streams.resize(index + 1);
  if (!streams[index]) QM_CUDA_CHECK(cudaStreamCreateWithFlags(&streams[index], cudaStreamNonBlocking));
  return Stream{device, streams[index]};
}

// Relaxed: other threads go on with their own work, and a missing cached block may still be allocated.
void begin_capture(const Stream& stream) {
  make_current(stream.device);
  QM_CUDA_CHECK(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeRelaxed));
}

void* end_capture(const Stream& stream, bool required) {
  cudaGraph_t graph = nullptr;
  const cudaError_t status = cudaStreamEndCapture(native(stream), &graph);
  if (!required) {
    cudaGetLastError();
    if (graph) cudaGraphDestroy(graph);
    return nullptr;
  }
  QM_CUDA_CHECK(status);
  cudaGraphExec_t executable = nullptr;
  const cudaError_t instantiated = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  QM_CUDA_CHECK(instantiated);
  return executable;
}

void launch_graph(void* executable, const Stream& stream) {
  QM_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable), native(stream)));
}
void destroy_graph(void* executable) noexcept { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable)); }

}  // namespace qm::cuda
