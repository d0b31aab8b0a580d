#include "dist/communicator.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

class CompleteRequest final : public Request {
 public:
  void wait() override {}
};

/// What the sum of one rank's tensor takes is what the sums of many take, so that errors do not wait for a second rank.
void check_summable(const Tensor& tensor) {
  const DType dtype = tensor.dtype();
  QM_CHECK(dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kInt64, CommError,
           "all_reduce_sum: expected float32, float64 or int64, got ", name_of(dtype));
}

void check_root(const char* operation, int root) {
  QM_CHECK(root == 0, CommError, operation, " from rank ", root, ": the group has one rank, 0");
}

class SingleCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  const char* name() const override { return "single"; }

  std::unique_ptr<Request> start_all_reduce_sum(const Tensor& tensor) override {
    check_summable(tensor);
    return std::make_unique<CompleteRequest>();
  }
  void broadcast(const Tensor&, int root) override { check_root("broadcast", root); }
  void broadcast_bytes(std::vector<char>&, int root) override { check_root("broadcast_bytes", root); }
  std::vector<std::string> all_gather_bytes(const std::string& bytes) override { return {bytes}; }
  double all_reduce_max(double value) override { return value; }
  void barrier() override {}
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
  return std::make_unique<SingleCommunicator>();
}

}  // namespace qm
