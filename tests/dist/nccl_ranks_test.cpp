// NCCL between the GPUs of one host. ctest runs this suite with the other tests of several ranks; it reports itself
// skipped where a rank has no GPU of its own, and fails, like those, where there is only one rank.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <future>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dist/gradient_reducer.h"
#include "kernels/base/error.h"
#include "kernels/base/graph.h"
#include "tests/dist/job.h"

namespace qm::test {
namespace {

Device own_gpu() {
  return {DeviceType::kCuda, environment().local_rank()};
}

Communicator& nccl() {
  static const std::unique_ptr<Communicator> communicator = environment().make_communicator(own_gpu());
  return *communicator;
}

class nccl_mpi_ranks : public testing::Test {
 protected:
  void SetUp() override {
    world();
    const GpuSupply supply = environment().gpu_supply();  // all ranks skip, or none
    if (!supply.suffices()) GTEST_SKIP() << supply.ranks << " ranks on a host with " << supply.gpus << " GPUs";
  }
};

template <class T>
Tensor own_gpu_tensor(int round, std::int64_t count) {
  return own_tensor<T>(round, count).to(own_gpu());
}

/// Σ_r |value of rank r|, element by element: what rounding errors of the sum are proportional to.
template <class T>
std::vector<double> magnitudes(int round, std::int64_t count) {
  std::vector<double> sum(static_cast<std::size_t>(count));
  for (int rank = 0; rank < world().size(); ++rank) {
    const std::vector<T> values = values_of<T>(rank, round, count);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += std::abs(static_cast<double>(values[i]));
  }
  return sum;
}

/// Expects the sum over ranks up to its rounding: one for each rank, whatever the order. Integers exactly.
template <class T>
void expect_sum(const Tensor& actual, int round) {
  const std::vector<T> values = actual.to_vector<T>(), expected = expected_sum<T>(round, actual.count());
  const std::vector<double> magnitude = magnitudes<T>(round, actual.count());
  const double rounding = world().size() * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_LE(std::abs(static_cast<double>(values[i] - expected[i])), rounding * magnitude[i])
        << "element " << i << " of " << values.size();
  }
}

constexpr std::int64_t kCounts[] = {0, 1, 2, 3, 5, 64, 1025, 100003, (std::int64_t{4} << 20) + 1};

TEST_F(nccl_mpi_ranks, ranks_are_those_of_mpi) {
  EXPECT_STREQ(nccl().name(), "nccl");
  EXPECT_EQ(nccl().size(), world().size());
  EXPECT_EQ(nccl().rank(), world().rank());
  EXPECT_EQ(nccl().local_rank(), world().local_rank());
}

TEST_F(nccl_mpi_ranks, sums_are_those_of_mpi_up_to_rounding) {
  for (const std::int64_t count : kCounts) {
    const Tensor floats = own_gpu_tensor<float>(0, count), doubles = own_gpu_tensor<double>(1, count);
    const Tensor integers = own_gpu_tensor<std::int64_t>(2, count);
    for (const Tensor& tensor : {floats, doubles, integers}) nccl().all_reduce_sum(tensor);
    expect_sum<float>(floats, 0);
    expect_sum<double>(doubles, 1);
    expect_sum<std::int64_t>(integers, 2);
  }
}

TEST_F(nccl_mpi_ranks, sums_have_the_same_bits_twice_and_on_all_ranks) {
  for (const std::int64_t count : kCounts) {
    const Tensor first = own_gpu_tensor<float>(0, count), second = own_gpu_tensor<float>(0, count);
    nccl().all_reduce_sum(first);
    nccl().all_reduce_sum(second);
    const std::vector<float> bits = first.to_vector<float>();
    EXPECT_EQ(second.to_vector<float>(), bits) << "count " << count;
    const Tensor of_first_rank = first.to(Device{}).clone();
    world().broadcast(of_first_rank, 0);
    EXPECT_EQ(of_first_rank.to_vector<float>(), bits) << "count " << count;
  }
}

TEST_F(nccl_mpi_ranks, several_sums_are_under_way_at_once_while_the_gpu_works_on) {
  constexpr int kSums = 8;
  constexpr std::int64_t kCount = (std::int64_t{1} << 20) + 3;
  std::vector<Tensor> tensors, copies;
  std::vector<std::unique_ptr<Request>> requests;
  for (int i = 0; i < kSums; ++i) {
    // Made by work on the current stream, which the sum has to wait for.
    tensors.push_back(own_gpu_tensor<float>(i, kCount).clone());
    requests.push_back(nccl().start_all_reduce_sum(tensors.back()));
  }
  for (int i = kSums; i-- > 0;) {
    requests[static_cast<std::size_t>(i)]->wait();
    // Work on the current stream, which has to wait for the sum.
    copies.push_back(tensors[static_cast<std::size_t>(i)].clone());
  }
  requests.front()->wait();  // once more does nothing
  for (int i = 0; i < kSums; ++i) expect_sum<float>(copies[static_cast<std::size_t>(kSums - 1 - i)], i);
}

TEST_F(nccl_mpi_ranks, tensors_of_every_dtype_are_broadcast_from_every_root) {
  for (int root = 0; root < world().size(); ++root) {
    const std::vector<float> sent = values_of<float>(root, root, 1001);
    const Tensor floats = own_gpu_tensor<float>(root, 1001);
    nccl().broadcast(floats, root);
    EXPECT_EQ(floats.to_vector<float>(), sent) << "root " << root;

    const Tensor rounded = own_gpu_tensor<float>(root, 1001).to(DType::kBFloat16);
    nccl().broadcast(rounded, root);
    EXPECT_EQ(rounded.to(DType::kFloat32).to_vector<float>(),
              Tensor::from(sent, {1001}).to(DType::kBFloat16).to(DType::kFloat32).to_vector<float>());

    const auto bytes_of = [](int rank) { return std::vector<std::uint8_t>(3, static_cast<std::uint8_t>(rank)); };
    const Tensor bytes = Tensor::from(bytes_of(world().rank()), {3}).to(own_gpu());
    nccl().broadcast(bytes, root);
    EXPECT_EQ(bytes.to_vector<std::uint8_t>(), bytes_of(root));
  }
}

TEST_F(nccl_mpi_ranks, what_is_not_on_a_gpu_goes_over_mpi) {
  const Tensor tensor = own_tensor<float>(0, 1000);
  nccl().all_reduce_sum(tensor);
  EXPECT_EQ(tensor.to_vector<float>(), expected_sum<float>(0, 1000));
  nccl().broadcast(tensor, 0);
  EXPECT_EQ(nccl().all_reduce_max(world().rank()), world().size() - 1);
  const std::vector<std::string> all = nccl().all_gather_bytes(std::to_string(world().rank()));
  ASSERT_EQ(all.size(), static_cast<std::size_t>(world().size()));
  EXPECT_EQ(all.back(), std::to_string(world().size() - 1));
  nccl().barrier();
}

TEST_F(nccl_mpi_ranks, buckets_of_gradients_are_summed) {
  const std::vector<GradientRange> ranges{{0, 100000}, {100032, 1}, {100064, 500000}, {600064, 7}};
  constexpr std::int64_t kCount = 600096;
  for (const std::size_t bucket_bytes : {std::size_t{0}, std::size_t{1} << 20, std::size_t{1} << 30}) {
    const Tensor gradients = Tensor::zeros({kCount}, DType::kFloat32, own_gpu());
    GradientReducer reducer(nccl(), gradients, ranges, bucket_bytes);
    std::vector<float> bits;
    for (int round = 0; round < 3; ++round) {
      gradients.copy_from(own_gpu_tensor<float>(5, kCount));
      reducer.begin();
      for (std::size_t i = 0; i < ranges.size(); ++i) {  // every rank in an order of its own
        reducer.mark_ready((i + static_cast<std::size_t>(world().rank())) % ranges.size());
      }
      reducer.finish();
      expect_sum<float>(gradients, 5);
      if (round == 0) bits = gradients.to_vector<float>();
      EXPECT_EQ(gradients.to_vector<float>(), bits) << "round " << round << ", buckets of " << bucket_bytes;
    }
  }
}

/// A communicator with a deadline of 2 s, connected, whose report is kept.
class WatchedGpu {
 public:
  WatchedGpu() { communicator_->all_reduce_sum(own_gpu_tensor<float>(0, 10)); }  // waits for others to connect

  Communicator& communicator() { return *communicator_; }

  /// All ranks but the last take part in an operation, by `take_part()`, which must not wait for it; the last does 8 s
  /// later. Expects that the others are told after the deadline, and that the operation comes to its end.
  template <class TakePart>
  void expect_that_the_last_is_named(const std::string& operation, const TakePart& take_part) {
    constexpr std::chrono::seconds kLate{8}, kSoon{5};
    const int last = world().size() - 1;
    world().barrier();
    const auto start = Clock::now();
    if (world().rank() == last) std::this_thread::sleep_for(kLate);
    take_part();
    if (world().rank() != last) {
      ASSERT_EQ(future_.wait_for(kSoon), std::future_status::ready) << "nobody was told of " << operation;
      const auto [what, when] = future_.get();
      EXPECT_EQ(what, concat("NCCL rank ", world().rank(), ": ", operation, ": not done after 2 s; rank ", last,
                             " has not come to it"));
      EXPECT_GE(when - start, kDeadline);
      EXPECT_LE(when - start, kSoon);
    }
    synchronize(current_stream(own_gpu()));
    world().barrier();
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kDeadline{2};

  std::promise<std::pair<std::string, Clock::time_point>> told_;
  std::future<std::pair<std::string, Clock::time_point>> future_ = told_.get_future();
  std::unique_ptr<Communicator> communicator_ =
      environment().make_communicator(own_gpu(), kDeadline, [this](const std::string& what) {
        told_.set_value({what, Clock::now()});
      });
};

TEST_F(nccl_mpi_ranks, a_rank_that_does_not_come_to_a_sum_is_named_after_the_deadline) {
  WatchedGpu gpu;
  const Tensor tensor = own_gpu_tensor<float>(0, 1001);
  gpu.expect_that_the_last_is_named("ncclAllReduce of 4004 bytes", [&] { gpu.communicator().all_reduce_sum(tensor); });
  expect_sum<float>(tensor, 0);
}

TEST_F(nccl_mpi_ranks, a_rank_that_does_not_replay_a_graph_is_named_after_the_deadline) {
  WatchedGpu gpu;
  const Tensor tensor = own_gpu_tensor<float>(0, 1001);
  const Graph graph(tensor.stream(), [&] { gpu.communicator().all_reduce_sum(tensor); });
  gpu.expect_that_the_last_is_named("a sum as a graph", [&] {
    graph.launch();
    gpu.communicator().watch(tensor.stream(), "a sum as a graph");
  });
  expect_sum<float>(tensor, 0);
}

TEST_F(nccl_mpi_ranks, work_that_is_done_in_time_raises_no_alarm) {
  std::string told;
  {
    const auto communicator = environment().make_communicator(own_gpu(), std::chrono::seconds(1),
                                                              [&](const std::string& what) { told = what; });
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    double go_on = 1;
    while (go_on > 0) {
      const Tensor tensor = own_gpu_tensor<float>(0, 100003);
      communicator->all_reduce_sum(tensor);
      expect_sum<float>(tensor, 0);
      go_on = world().all_reduce_max(std::chrono::steady_clock::now() < end ? 1 : 0);
    }
  }
  EXPECT_EQ(told, "");
}

TEST_F(nccl_mpi_ranks, errors_name_what_was_asked_for) {
  const auto error_of = [](const auto& action) -> std::string {
    try {
      action();
    } catch (const CommError& error) {
      return error.what();
    }
    return "no error";
  };
  const std::string rank = concat("NCCL rank ", world().rank(), ": ");
  const std::string from_nowhere =
      error_of([] { nccl().broadcast(Tensor::zeros({4}, DType::kFloat32, own_gpu()), 99); });
  EXPECT_TRUE(from_nowhere.starts_with(rank + "ncclBroadcast from rank 99: invalid argument")) << from_nowhere;
  for (const DType dtype : {DType::kBFloat16, DType::kUInt8, DType::kInt32}) {
    EXPECT_EQ(error_of([&] { nccl().all_reduce_sum(Tensor::zeros({4}, dtype, own_gpu())); }),
              concat("all_reduce_sum: expected float32, float64 or int64, got ", name_of(dtype)));
  }
  const Device other{DeviceType::kCuda, (own_gpu().index + 1) % cuda_device_count()};
  EXPECT_EQ(error_of([&] { nccl().all_reduce_sum(Tensor::zeros({4}, DType::kFloat32, other)); }),
            concat(rank, "all_reduce_sum: expected a tensor on ", own_gpu().name(), ", got ", other.name()));
}

}  // namespace
}  // namespace qm::test
