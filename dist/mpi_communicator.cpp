#include "dist/mpi_communicator.h"

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <mutex>
#include <numeric>
#include <utility>

#include "dist/mpi_check.h"
#include "dist/mpi_lock.h"
#include "dist/mpi_wait.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

constexpr std::size_t kLargestMessage = std::size_t{1} << 30;  // MPI counts are ints

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return MPI_FLOAT;
    case DType::kFloat64:
      return MPI_DOUBLE;
    case DType::kInt64:
      return MPI_INT64_T;
    default:
      throw CommError(concat("all_reduce_sum: expected float32, float64 or int64, got ", name_of(dtype)));
  }
}

void check_on_cpu(const Tensor& tensor, const char* operation) {
  QM_CHECK(tensor.device().type == DeviceType::kCpu, CommError, "MPI ", operation,
           ": expected a tensor on the CPU, got ", tensor.device().name());
}

// ---- sums -----------------------------------------------------------------------------------------------------------
//
// MPI_Allreduce leaves the order of additions to the library, which may choose by size, topology or version. Here the
// order is ours: rank r owns the r-th of `size` nearly equal chunks, receives that chunk of every rank (all-to-all),
// adds them in rank order, and gives the sum to all (all-gather). Each element is added once, by one rank:
// bit-identical everywhere. The traffic is that of a ring: 2 (size − 1) / size of the tensor a rank.

/// How an array is divided into chunks, in elements: what MPI's "v" collectives want to know.
struct Chunks {
  std::vector<int> counts;
  std::vector<int> offsets;

  Chunks(std::int64_t count, int size) {
    for (std::int64_t r = 0; r < size; ++r) {
      const std::int64_t begin = count * r / size;
      offsets.push_back(static_cast<int>(begin));
      counts.push_back(static_cast<int>(count * (r + 1) / size - begin));
    }
  }
};

/// sum[i] ← Σ_r parts[r·count + i], in the order of r
template <class T>
void add_in_rank_order(const T* parts, int size, std::int64_t count, T* sum) {
  std::copy(parts, parts + count, sum);
  for (int r = 1; r < size; ++r) {
    const T* part = parts + r * count;
    for (std::int64_t i = 0; i < count; ++i) sum[i] += part[i];
  }
}

void add_in_rank_order(DType dtype, const void* parts, int size, std::int64_t count, void* sum) {
  const auto add = [&]<class T>(T) {
    add_in_rank_order(static_cast<const T*>(parts), size, count, static_cast<T*>(sum));
  };
  switch (dtype) {
    case DType::kFloat32:
      return add(float{});
    case DType::kFloat64:
      return add(double{});
    default:
      return add(std::int64_t{});
  }
}

/// One sum on its way: the all-to-all runs from start to wait(), the rest is done in wait().
class Sum {
 public:
  Sum(MPI_Comm comm, MpiWaiter& waiter, int rank, int size, const Tensor& tensor)
      : comm_(comm),
        waiter_(waiter),
        rank_(rank),
        size_(size),
        tensor_(tensor),
        type_(mpi_type(tensor.dtype())),
        chunks_(tensor.count(), size),
        received_counts_(size, chunks_.counts[rank]),
        received_offsets_(size) {
    for (int r = 0; r < size; ++r) received_offsets_[r] = r * own_count();
    received_ = Tensor::empty({std::int64_t{size} * own_count()}, tensor.dtype());
    const std::lock_guard lock(mpi_lock);
    check_mpi(MPI_Ialltoallv(tensor_.raw(), chunks_.counts.data(), chunks_.offsets.data(), type_, received_.raw(),
                             received_counts_.data(), received_offsets_.data(), type_, comm_, &request_),
              "MPI_Ialltoallv");
  }
  Sum(const Sum&) = delete;
  Sum& operator=(const Sum&) = delete;

  void finish() {
    waiter_.wait(request_, "MPI_Ialltoallv of a sum");
    char* own = static_cast<char*>(tensor_.raw()) + chunks_.offsets[rank_] * size_of(tensor_.dtype());
    add_in_rank_order(tensor_.dtype(), received_.raw(), size_, own_count(), own);
    waiter_.run("MPI_Iallgatherv of a sum", [&](MPI_Request* request) {
      return MPI_Iallgatherv(MPI_IN_PLACE, 0, type_, tensor_.raw(), chunks_.counts.data(), chunks_.offsets.data(), type_,
                             comm_, request);
    });
  }

 private:
  int own_count() const { return chunks_.counts[rank_]; }

  MPI_Comm comm_;
  MpiWaiter& waiter_;
  int rank_;
  int size_;
  Tensor tensor_;
  MPI_Datatype type_;
  Chunks chunks_;
  std::vector<int> received_counts_;
  std::vector<int> received_offsets_;
  Tensor received_;  ///< this rank's chunk of every rank's tensor, in rank order
  MPI_Request request_ = MPI_REQUEST_NULL;
};

class SumRequest final : public Request {
 public:
  explicit SumRequest(std::unique_ptr<Sum> sum) : sum_(std::move(sum)) {}

  /// MPI still writes to the buffers of a sum that nobody waited for, and the ranks it waits for may be gone: its
  /// memory is given up rather than freed. This happens only on the way to ending the job.
  ~SumRequest() override { static_cast<void>(sum_.release()); }

  void wait() override {
    if (!sum_) return;
    sum_->finish();
    sum_.reset();
  }

 private:
  std::unique_ptr<Sum> sum_;
};

// ---- the communicator -----------------------------------------------------------------------------------------------

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(int local_rank, std::chrono::seconds deadline, std::function<void(const std::string&)> report)
      : local_rank_(local_rank),
        comm_(duplicate_world()),
        waiter_(std::make_unique<MpiWaiter>(duplicate_world(), deadline, std::move(report))) {
    const std::lock_guard lock(mpi_lock);
    check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  const char* name() const override { return "mpi"; }

  std::unique_ptr<Request> start_all_reduce_sum(const Tensor& tensor) override {
    check_on_cpu(tensor, "all_reduce_sum");
    QM_CHECK(tensor.count() <= std::numeric_limits<int>::max() - size_, CommError,
             "MPI all_reduce_sum: expected at most 2^31 elements, got ", tensor.count());
    return std::make_unique<SumRequest>(std::make_unique<Sum>(comm_, *waiter_, rank_, size_, tensor));
  }

  void broadcast(const Tensor& tensor, int root) override {
    check_on_cpu(tensor, "broadcast");
    broadcast_raw(static_cast<char*>(tensor.raw()), tensor.bytes(), root);
  }

  void broadcast_bytes(std::vector<char>& bytes, int root) override {
    std::uint64_t size = bytes.size();
    broadcast_raw(reinterpret_cast<char*>(&size), sizeof size, root);
    bytes.resize(size);
    broadcast_raw(bytes.data(), bytes.size(), root);
  }

  std::vector<std::string> all_gather_bytes(const std::string& bytes) override {
    std::vector<std::string> all(static_cast<std::size_t>(size_));
    for (int root = 0; root < size_; ++root) {
      std::vector<char> piece;
      if (root == rank_) piece.assign(bytes.begin(), bytes.end());
      broadcast_bytes(piece, root);
      all[static_cast<std::size_t>(root)].assign(piece.begin(), piece.end());
    }
    return all;
  }

  /// MPI_MAX may lose a NaN, depending on the order in which the library compares.
  double all_reduce_max(double value) override {
    std::vector<double> values(static_cast<std::size_t>(size_));
    waiter_->run("MPI_Iallgather", [&](MPI_Request* request) {
      return MPI_Iallgather(&value, 1, MPI_DOUBLE, values.data(), 1, MPI_DOUBLE, comm_, request);
    });
    return std::accumulate(values.begin(), values.end(), values[0],
                           [](double a, double b) { return std::isnan(a) || a > b ? a : b; });
  }

  void barrier() override {
    waiter_->run("MPI_Ibarrier", [&](MPI_Request* request) { return MPI_Ibarrier(comm_, request); });
  }

 private:
  void broadcast_raw(char* bytes, std::size_t count, int root) {
    const std::string operation = concat("MPI_Ibcast from rank ", root);
    for (std::size_t done = 0; done < count; done += kLargestMessage) {
      const int part = static_cast<int>(std::min(kLargestMessage, count - done));
      waiter_->run(operation.c_str(), [&](MPI_Request* request) {
        return MPI_Ibcast(bytes + done, part, MPI_BYTE, root, comm_, request);
      });
    }
  }

  int rank_ = 0;
  int size_ = 1;
  int local_rank_;
  MPI_Comm comm_;
  std::unique_ptr<MpiWaiter> waiter_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(int local_rank, std::chrono::seconds deadline,
                                                    std::function<void(const std::string&)> report) {
  return std::make_unique<MpiCommunicator>(local_rank, deadline, std::move(report));
}

}  // namespace qm
