#include <nccl.h>

#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <utility>

#include "dist/nccl_communicator.h"
#include "dist/rank_names.h"
#include "dist/watchdog.h"
#include "kernels/base/cuda_check.cuh"

namespace qm {
namespace {

// ---- CUDA and NCCL objects ------------------------------------------------------------------------------------------

/// Throws CommError with the rank, the operation, NCCL's word for the status, and what NCCL last had to say.
void check_nccl(ncclResult_t status, int rank, const std::string& operation, ncclComm_t comm = nullptr) {
  if (status == ncclSuccess) return;
  const char* details = ncclGetLastError(comm);
  throw CommError(concat("NCCL ", name_of_rank(rank), ": ", operation, ": ", ncclGetErrorString(status),
                         details && *details ? concat(" (", details, ")") : ""));
}

cudaStream_t current_handle(Device device) {
  return static_cast<cudaStream_t>(current_stream(device).handle);
}

/// A point in one stream for another stream to wait for.
class Event {
 public:
  Event() { QM_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  /// CUDA keeps an event that is still waited for until it has come.
  ~Event() { cudaEventDestroy(event_); }

  void record(cudaStream_t stream) { QM_CUDA_CHECK(cudaEventRecord(event_, stream)); }
  void hold_up(cudaStream_t stream) const { QM_CUDA_CHECK(cudaStreamWaitEvent(stream, event_, 0)); }
  /// Also if what came before it has failed: whoever waits for the stream is told.
  bool reached() const noexcept { return cudaEventQuery(event_) != cudaErrorNotReady; }

 private:
  cudaEvent_t event_ = nullptr;
};

/// The communicator's stream. It comes before all others: a sum that waits for multiprocessors holds up every rank.
class CommunicationStream {
 public:
  CommunicationStream() {
    int least = 0, greatest = 0;
    QM_CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    QM_CUDA_CHECK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest));
  }
  CommunicationStream(const CommunicationStream&) = delete;
  CommunicationStream& operator=(const CommunicationStream&) = delete;
  /// CUDA lets what is queued on it come to its end.
  ~CommunicationStream() { cudaStreamDestroy(stream_); }

  cudaStream_t handle() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// ---- operations -----------------------------------------------------------------------------------------------------

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kFloat64:
      return ncclFloat64;
    case DType::kInt64:
      return ncclInt64;
    default:
      throw CommError(concat("all_reduce_sum: expected float32, float64 or int64, got ", name_of(dtype)));
  }
}

bool is_being_recorded(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  QM_CUDA_CHECK(cudaStreamIsCapturing(stream, &status));
  return status != cudaStreamCaptureStatusNone;
}

/// What the Watchdog knows of an operation: the call into NCCL, which may wait for other ranks itself, and then the point
/// in the stream. Made by the calling thread; reached() is asked by the Watchdog's.
class Progress {
 public:
  /// The call has returned, and `done` comes after the operation.
  void queued(std::shared_ptr<const Event> done) {
    done_ = std::move(done);
    state_ = kQueued;
  }
  /// There is nothing more to wait for: the call did all, failed, or was only recorded for a graph.
  void over() { state_ = kOver; }
  bool reached() const noexcept {
    const State state = state_;
    return state == kOver || (state == kQueued && done_->reached());
  }

 private:
  enum State { kCalled, kQueued, kOver };
  std::atomic<State> state_{kCalled};
  std::shared_ptr<const Event> done_;  ///< written before kQueued is
};

/// Over at the latest when a call ends, by an exception for one.
class CallUnderWatch {
 public:
  CallUnderWatch(Watchdog& watchdog, std::string name) : progress_(std::make_shared<Progress>()) {
    watchdog.start(std::move(name), [progress = progress_] { return progress->reached(); });
  }
  CallUnderWatch(const CallUnderWatch&) = delete;
  CallUnderWatch& operator=(const CallUnderWatch&) = delete;
  ~CallUnderWatch() {
    if (!queued_) progress_->over();
  }

  void queued(std::shared_ptr<const Event> done) {
    progress_->queued(std::move(done));
    queued_ = true;
  }

 private:
  std::shared_ptr<Progress> progress_;
  bool queued_ = false;
};

class NcclRequest final : public Request {
 public:
  /// `done` is recorded behind the operation.
  NcclRequest(const Tensor& tensor, std::shared_ptr<const Event> done) : tensor_(tensor), done_(std::move(done)) {}

  /// NCCL still writes to a tensor that nobody waited for, and the ranks it waits for may be gone: its memory is given
  /// up rather than freed. This happens only on the way to ending the job.
  ~NcclRequest() override {
    if (tensor_.defined()) static_cast<void>(new Tensor(std::move(tensor_)));
  }

  void wait() override {
    if (!tensor_.defined()) return;
    done_->hold_up(current_handle(tensor_.device()));
    tensor_ = Tensor();
  }

 private:
  Tensor tensor_;
  std::shared_ptr<const Event> done_;
};

class NcclCommunicator final : public Communicator {
 public:
  /// `device` is the current one, which the streams and events made here belong to.
  NcclCommunicator(Device device, std::unique_ptr<Communicator> host, std::chrono::seconds deadline,
                   std::function<void(const std::string&)> report)
      : device_(device),
        host_(std::move(host)),
        exceptions_at_start_(std::uncaught_exceptions()),
        watchdog_({.who = concat("NCCL ", name_of_rank(host_->rank())),
                   .rank = host_->rank(),
                   .size = host_->size(),
                   .deadline = deadline,
                   .begin = [device] { cudaSetDevice(device.index); },  // a thread of its own begins on GPU 0
                   .failure = [this] { return failure_so_far(); },
                   .report = std::move(report)}) {
    const ncclUniqueId id = share_unique_id();
    const std::string name = concat("ncclCommInitRank on ", device_.name());
    const CallUnderWatch call(watchdog_, name);
    ncclComm_t comm = nullptr;
    check_nccl(ncclCommInitRank(&comm, size(), id, rank()), rank(), name);
    const std::lock_guard lock(comm_mutex_);
    comm_ = comm;
  }

  /// ncclCommDestroy waits for the ranks of this host, which on the way out of an error may have failed or still be
  /// waiting for this one. The end of the process frees the communicator too.
  ~NcclCommunicator() override {
    if (std::uncaught_exceptions() != exceptions_at_start_) return;
    ncclComm_t comm;
    {
      const std::lock_guard lock(comm_mutex_);
      comm = std::exchange(comm_, nullptr);
    }
    const CallUnderWatch call(watchdog_, "ncclCommDestroy");
    ncclCommDestroy(comm);
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  int local_rank() const override { return host_->local_rank(); }
  const char* name() const override { return "nccl"; }

  std::unique_ptr<Request> start_all_reduce_sum(const Tensor& tensor) override {
    if (!is_on_gpu(tensor, "all_reduce_sum")) return host_->start_all_reduce_sum(tensor);
    const ncclDataType_t type = nccl_type(tensor.dtype());
    return start(tensor, "ncclAllReduce", [&] {
      return ncclAllReduce(tensor.raw(), tensor.raw(), static_cast<std::size_t>(tensor.count()), type, ncclSum, comm_,
                           stream_.handle());
    });
  }

  /// By bytes, so that it takes any dtype.
  void broadcast(const Tensor& tensor, int root) override {
    if (!is_on_gpu(tensor, "broadcast")) return host_->broadcast(tensor, root);
    start(tensor, concat("ncclBroadcast from rank ", root), [&] {
      return ncclBroadcast(tensor.raw(), tensor.raw(), tensor.bytes(), ncclUint8, root, comm_, stream_.handle());
    })->wait();
  }

  void broadcast_bytes(std::vector<char>& bytes, int root) override { host_->broadcast_bytes(bytes, root); }
  std::vector<std::string> all_gather_bytes(const std::string& bytes) override {
    return host_->all_gather_bytes(bytes);
  }
  double all_reduce_max(double value) override { return host_->all_reduce_max(value); }
  void barrier() override { host_->barrier(); }

  void watch(const Stream& stream, const std::string& name) override {
    cuda::make_current(device_);
    CallUnderWatch call(watchdog_, name);
    const auto done = std::make_shared<Event>();
    done->record(static_cast<cudaStream_t>(stream.handle));
    call.queued(done);
  }

 private:
  ncclUniqueId share_unique_id() {
    ncclUniqueId id{};
    if (rank() == 0) check_nccl(ncclGetUniqueId(&id), rank(), "ncclGetUniqueId");
    std::vector<char> bytes(sizeof id);
    std::memcpy(bytes.data(), &id, sizeof id);
    host_->broadcast_bytes(bytes, 0);
    std::memcpy(&id, bytes.data(), sizeof id);
    return id;
  }

  bool is_on_gpu(const Tensor& tensor, const char* operation) const {
    QM_CHECK(tensor.device().type == DeviceType::kCpu || tensor.device() == device_, CommError, "NCCL ",
             name_of_rank(rank()), ": ", operation, ": expected a tensor on ", device_.name(), ", got ",
             tensor.device().name());
    return tensor.device().type == DeviceType::kCuda;
  }

  /// Queues `operation` on the communicator's stream, behind what is queued on the current one.
  template <class Operation>
  std::unique_ptr<Request> start(const Tensor& tensor, const std::string& name, const Operation& operation) {
    cuda::make_current(device_);
    CallUnderWatch call(watchdog_, concat(name, " of ", tensor.bytes(), " bytes"));
    const cudaStream_t current = current_handle(device_);
    ready_.record(current);
    ready_.hold_up(stream_.handle());
    check_nccl(operation(), rank(), name, comm_);
    const auto done = std::make_shared<Event>();
    done->record(stream_.handle());
    if (!is_being_recorded(current)) call.queued(done);
    return std::make_unique<NcclRequest>(tensor, done);
  }

  /// What fails once it runs, such as a link to another host, NCCL only tells when asked. By the Watchdog's thread.
  std::string failure_so_far() {
    const std::lock_guard lock(comm_mutex_);
    if (!comm_) return "";
    ncclResult_t failure = ncclSuccess;
    const ncclResult_t status = ncclCommGetAsyncError(comm_, &failure);
    if (status != ncclSuccess) failure = status;
    if (failure == ncclSuccess || failure == ncclInProgress) return "";
    const char* details = ncclGetLastError(comm_);
    return concat(ncclGetErrorString(failure), details && *details ? concat(" (", details, ")") : "");
  }

  Device device_;
  std::unique_ptr<Communicator> host_;
  int exceptions_at_start_;
  CommunicationStream stream_;
  Event ready_;  ///< recorded anew by each operation: a stream waits for what was recorded when it was told to
  std::mutex comm_mutex_;  ///< keeps the Watchdog from a communicator that is being destroyed
  ncclComm_t comm_ = nullptr;
  Watchdog watchdog_;  ///< last: its thread looks at the others
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Device device, std::unique_ptr<Communicator> host,
                                                     std::chrono::seconds deadline,
                                                     std::function<void(const std::string& what)> report) {
  cuda::make_current(device);
  return std::make_unique<NcclCommunicator>(device, std::move(host), deadline, std::move(report));
}

}  // namespace qm
