#include <nccl.h>

#include <cstring>
#include <exception>
#include <utility>

#include "dist/nccl_communicator.h"
#include "kernels/base/cuda_check.cuh"

namespace qm {
namespace {

// ---- CUDA and NCCL objects
// -------------------------------------------------------------------------------------------

/// Throws CommError with the rank, the operation, NCCL's word for the status, and what NCCL last had to say.
void check_nccl(ncclResult_t status, int rank, const std::string& operation, ncclComm_t comm = nullptr) {
  if (status == ncclSuccess) return;
  const char* details = ncclGetLastError(comm);
  throw CommError(concat("NCCL rank ", rank, ": ", operation, ": ", ncclGetErrorString(status),
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

// ---- operations
// ------------------------------------------------------------------------------------------------------

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

class NcclRequest final : public Request {
 public:
  /// Done once everything queued so far on `stream` is.
  NcclRequest(const Tensor& tensor, cudaStream_t stream) : tensor_(tensor) { done_.record(stream); }

  /// NCCL still writes to a tensor that nobody waited for, and the ranks it waits for may be gone: its memory is given
  /// up rather than freed. This happens only on the way to ending the job.
  ~NcclRequest() override {
    if (tensor_.defined()) static_cast<void>(new Tensor(std::move(tensor_)));
  }

  void wait() override {
    if (!tensor_.defined()) return;
    done_.hold_up(current_handle(tensor_.device()));
    tensor_ = Tensor();
  }

 private:
  Tensor tensor_;
  Event done_;
};

class NcclCommunicator final : public Communicator {
 public:
  /// `device` is the current one, which the streams and events made here belong to.
  NcclCommunicator(Device device, std::unique_ptr<Communicator> host)
      : device_(device), host_(std::move(host)), exceptions_at_start_(std::uncaught_exceptions()) {
    const ncclUniqueId id = share_unique_id();
    check_nccl(ncclCommInitRank(&comm_, size(), id, rank()), rank(), concat("ncclCommInitRank on ", device_.name()));
  }

  /// ncclCommDestroy waits for the ranks of this host, which on the way out of an error may have failed or still be
  /// waiting for this one. The end of the process frees the communicator too.
  ~NcclCommunicator() override {
    if (std::uncaught_exceptions() == exceptions_at_start_) ncclCommDestroy(comm_);
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
    QM_CHECK(tensor.device().type == DeviceType::kCpu || tensor.device() == device_, CommError, "NCCL rank ", rank(),
             ": ", operation, ": expected a tensor on ", device_.name(), ", got ", tensor.device().name());
    return tensor.device().type == DeviceType::kCuda;
  }

  /// Queues `operation` on the communicator's stream, behind what is queued on the current one.
  template <class Operation>
  std::unique_ptr<Request> start(const Tensor& tensor, const std::string& name, const Operation& operation) {
    cuda::make_current(device_);
    check_no_earlier_failure(name);
    ready_.record(current_handle(device_));
    ready_.hold_up(stream_.handle());
    check_nccl(operation(), rank(), name, comm_);
    return std::make_unique<NcclRequest>(tensor, stream_.handle());
  }

  /// What fails once it runs, such as a link to another host, NCCL only tells when asked.
  void check_no_earlier_failure(const std::string& name) const {
    ncclResult_t failure = ncclSuccess;
    check_nccl(ncclCommGetAsyncError(comm_, &failure), rank(), "ncclCommGetAsyncError", comm_);
    check_nccl(failure, rank(), concat("an operation before ", name), comm_);
  }

  Device device_;
  std::unique_ptr<Communicator> host_;
  int exceptions_at_start_;
  CommunicationStream stream_;
  Event ready_;  ///< recorded anew by each operation: a stream waits for what was recorded when it was told to
  ncclComm_t comm_ = nullptr;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Device device, std::unique_ptr<Communicator> host) {
  cuda::make_current(device);
  return std::make_unique<NcclCommunicator>(device, std::move(host));
}

}  // namespace qm
