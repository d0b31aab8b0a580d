// What only several processes can show. ctest runs this suite under mpirun with 2 and 3 ranks; alone, every test fails.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <future>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "autograd/tape.h"
#include "dist/gradient_reducer.h"
#include "dist/roll_call.h"
#include "dist/watchdog.h"
#include "kernels/base/error.h"
#include "tests/dist/job.h"

namespace {

using qm::Communicator;
using qm::DType;
using qm::Tensor;
using qm::test::environment;
using qm::test::expected_sum;
using qm::test::own_tensor;
using qm::test::values_of;
using qm::test::world;

template <class T>
void expect_sums_in_rank_order() {
  for (const std::int64_t count : {0, 1, 2, 3, 4, 5, 7, 64, 100003}) {
    const Tensor tensor = own_tensor<T>(0, count);
    world().all_reduce_sum(tensor);
    EXPECT_EQ(tensor.to_vector<T>(), expected_sum<T>(0, count)) << "count " << count;
  }
}

TEST(mpi_ranks, ranks_are_distinct) {
  Communicator& comm = world();
  EXPECT_STREQ(comm.name(), "mpi");
  EXPECT_EQ(comm.size(), environment().size());
  EXPECT_EQ(comm.rank(), environment().rank());
  EXPECT_EQ(comm.local_rank(), comm.rank());  // ctest's ranks share one host
  const std::vector<std::string> ranks = comm.all_gather_bytes(std::to_string(comm.rank()));
  ASSERT_EQ(ranks.size(), static_cast<std::size_t>(comm.size()));
  for (int r = 0; r < comm.size(); ++r) EXPECT_EQ(ranks[static_cast<std::size_t>(r)], std::to_string(r));
}

TEST(mpi_ranks, the_supply_of_gpus_is_that_of_the_host) {
  const qm::GpuSupply supply = environment().gpu_supply();
  EXPECT_EQ(supply.ranks, world().size());  // ctest's ranks share one host
  EXPECT_EQ(supply.gpus, qm::cuda_device_count());
}

TEST(mpi_ranks, sums_are_taken_in_rank_order) {
  expect_sums_in_rank_order<float>();
  expect_sums_in_rank_order<double>();
  expect_sums_in_rank_order<std::int64_t>();
}

TEST(mpi_ranks, the_sum_of_parts_is_the_sum_of_the_whole) {
  constexpr std::int64_t kCount = 1000;
  const Tensor whole = own_tensor<float>(1, kCount);
  const Tensor parts = whole.clone();
  world().all_reduce_sum(whole);
  for (const auto& [offset, count] : {std::pair{0, 1}, {1, 332}, {333, 600}, {933, 67}}) {
    world().all_reduce_sum(parts.slice(offset, {count}));
  }
  EXPECT_EQ(parts.to_vector<float>(), whole.to_vector<float>());
}

TEST(mpi_ranks, several_sums_are_under_way_at_once) {
  constexpr int kSums = 5;
  std::vector<Tensor> tensors;
  std::vector<std::unique_ptr<qm::Request>> requests;
  for (int i = 0; i < kSums; ++i) {
    tensors.push_back(own_tensor<double>(i, 501 + i));
    requests.push_back(world().start_all_reduce_sum(tensors.back()));
  }
  for (const auto& request : requests) request->wait();
  requests.front()->wait();  // once more does nothing
  for (int i = 0; i < kSums; ++i) {
    EXPECT_EQ(tensors[static_cast<std::size_t>(i)].to_vector<double>(), expected_sum<double>(i, 501 + i)) << i;
  }
}

TEST(mpi_ranks, only_numbers_can_be_summed) {
  Communicator& comm = world();
  for (const DType dtype : {DType::kBFloat16, DType::kUInt8, DType::kInt32}) {
    EXPECT_THROW(comm.all_reduce_sum(Tensor::zeros({4}, dtype)), qm::CommError) << name_of(dtype);
  }
}

TEST(mpi_ranks, tensors_are_broadcast_from_every_root) {
  for (int root = 0; root < world().size(); ++root) {
    const Tensor floats = own_tensor<float>(root, 1001);
    world().broadcast(floats, root);
    EXPECT_EQ(floats.to_vector<float>(), values_of<float>(root, root, 1001)) << "root " << root;
    const Tensor bytes = Tensor::from(std::vector<std::uint8_t>(3, static_cast<std::uint8_t>(world().rank())), {3});
    world().broadcast(bytes, root);
    EXPECT_EQ(bytes.to_vector<std::uint8_t>(), std::vector<std::uint8_t>(3, static_cast<std::uint8_t>(root)));
  }
}

TEST(mpi_ranks, bytes_are_broadcast_and_resized) {
  for (const std::size_t size : {0, 1, 100000}) {
    const std::vector<char> sent(size, 'q');
    std::vector<char> bytes(5, 'x');
    const int root = world().size() - 1;
    if (world().rank() == root) bytes = sent;
    world().broadcast_bytes(bytes, root);
    EXPECT_EQ(bytes, sent);
  }
}

TEST(mpi_ranks, bytes_of_different_lengths_are_gathered) {
  const auto bytes_of = [](int rank) { return std::string(static_cast<std::size_t>(rank) * 1000, '\0') + "end"; };
  const std::vector<std::string> all = world().all_gather_bytes(bytes_of(world().rank()));
  ASSERT_EQ(all.size(), static_cast<std::size_t>(world().size()));
  for (int r = 0; r < world().size(); ++r) EXPECT_EQ(all[static_cast<std::size_t>(r)], bytes_of(r));
}

TEST(mpi_ranks, the_largest_value_and_any_nan_win) {
  EXPECT_EQ(world().all_reduce_max(-5.0 + world().rank()), -5.0 + world().size() - 1);
  for (int nan_rank = 0; nan_rank < world().size(); ++nan_rank) {
    const double value = world().rank() == nan_rank ? std::numeric_limits<double>::quiet_NaN() : 1e300;
    EXPECT_TRUE(std::isnan(world().all_reduce_max(value))) << "NaN of rank " << nan_rank;
  }
}

TEST(mpi_ranks, a_barrier_waits_for_the_last) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kLate = std::chrono::milliseconds(200);
  world().barrier();
  const auto start = Clock::now();
  if (world().rank() == 0) std::this_thread::sleep_for(kLate);
  world().barrier();
  EXPECT_GE(Clock::now() - start, kLate / 2);
}

TEST(mpi_ranks, mpi_errors_name_operation_and_peer) {
  const Tensor tensor = Tensor::zeros({4}, DType::kFloat32);
  try {
    world().broadcast(tensor, 99);
    FAIL() << "a broadcast from rank 99 succeeded";
  } catch (const qm::CommError& error) {
    const std::string expected = "MPI rank " + std::to_string(world().rank()) + ": MPI_Ibcast from rank 99: ";
    EXPECT_EQ(std::string(error.what()).substr(0, expected.size()), expected);
    EXPECT_NE(std::string(error.what()).find("root"), std::string::npos) << error.what();
  }
}

TEST(mpi_ranks, a_rank_that_does_not_come_is_named_after_the_deadline) {
  const auto communicator = environment().make_communicator({}, std::chrono::seconds(1));
  const int last = world().size() - 1;
  if (world().rank() == last) {
    std::this_thread::sleep_for(std::chrono::seconds(6));  // the deadline, and the time that a roll call takes
  } else {
    try {
      communicator->barrier();
      FAIL() << "the barrier let the others pass without rank " << last;
    } catch (const qm::CommError& error) {
      EXPECT_EQ(std::string(error.what()), "MPI rank " + std::to_string(world().rank()) +
                                               ": MPI_Ibarrier: not done after 1 s; no sign of rank " +
                                               std::to_string(last));
    }
  }
  world().barrier();
}

/// A Watchdog with a deadline of 1 s, whose report is kept.
class WatchedRank {
 public:
  explicit WatchedRank(std::function<std::string()> failure = [] { return std::string(); })
      : watchdog_({.who = "rank " + std::to_string(world().rank()),
                   .rank = world().rank(),
                   .size = world().size(),
                   .deadline = std::chrono::seconds(1),
                   .begin = [] {},
                   .failure = std::move(failure),
                   .report = [this](const std::string& what) { told_.set_value(what); }}) {}

  /// An operation that is done as soon as `done` is set.
  void start(const std::string& name, const std::atomic<bool>& done) {
    watchdog_.start(name, [&done] { return done.load(); });
  }
  /// What was reported, at most `patience` from now; "nothing" else.
  std::string report(std::chrono::milliseconds patience) {
    return future_.wait_for(patience) == std::future_status::ready ? future_.get() : "nothing";
  }

 private:
  std::promise<std::string> told_;
  std::future<std::string> future_ = told_.get_future();
  qm::Watchdog watchdog_;
};

TEST(mpi_ranks, a_watchdog_names_the_rank_that_does_not_come) {
  const std::atomic<bool> done{true};
  std::atomic<bool> all_came{false};
  const int last = world().size() - 1;
  WatchedRank watched;
  watched.start("sum 1", done);
  if (world().rank() == last) {
    std::this_thread::sleep_for(std::chrono::seconds(5));  // the deadline, and the time that a roll call takes
    watched.start("sum 2", all_came);
  } else {
    watched.start("sum 2", all_came);
    watched.start("sum 3", all_came);
    EXPECT_EQ(watched.report(std::chrono::seconds(4)),
              qm::concat("rank ", world().rank(), ": sum 2: not done after 1 s; rank ", last, " has not come to it"));
  }
  world().barrier();
  all_came = true;
  if (world().rank() == last) {
    EXPECT_EQ(watched.report(std::chrono::milliseconds(1500)), "nothing");
  }
  world().barrier();
}

TEST(mpi_ranks, a_watchdog_names_the_rank_that_gives_no_sign) {
  const std::atomic<bool> done{false};
  const int last = world().size() - 1;
  if (world().rank() == last) {
    const qm::RollCall never_answers(last, world().size());
    std::this_thread::sleep_for(std::chrono::seconds(5));
  } else {
    WatchedRank watched;
    watched.start("sum", done);
    EXPECT_EQ(watched.report(std::chrono::seconds(5)),
              qm::concat("rank ", world().rank(), ": sum: not done after 1 s; no sign of rank ", last));
    std::this_thread::sleep_for(std::chrono::seconds(1));  // to answer others, whose deadline comes a little later
  }
  world().barrier();
}

TEST(mpi_ranks, a_watchdog_says_so_where_all_ranks_have_come) {
  const std::atomic<bool> done{false};
  WatchedRank watched;
  watched.start("sum", done);
  EXPECT_EQ(watched.report(std::chrono::seconds(5)),
            qm::concat("rank ", world().rank(), ": sum: not done after 1 s; every rank has come to it"));
  world().barrier();
}

TEST(mpi_ranks, a_watchdog_reports_a_failure_at_once) {
  const std::atomic<bool> done{false};
  std::atomic<bool> fails{false};
  WatchedRank watched([&] { return std::string(fails ? "remote error" : ""); });
  watched.start("sum", done);
  EXPECT_EQ(watched.report(std::chrono::milliseconds(300)), "nothing");
  fails = true;
  EXPECT_EQ(watched.report(std::chrono::milliseconds(600)), qm::concat("rank ", world().rank(), ": sum: remote error"));
  world().barrier();
}

TEST(mpi_ranks, there_is_one_environment) {
  environment();
  EXPECT_THROW(qm::Environment(), qm::CommError);
}

TEST(mpi_ranks, gradients_are_summed_whatever_the_order_of_marks) {
  const std::vector<qm::GradientRange> ranges{{0, 10}, {16, 1}, {32, 500}, {544, 7}};
  constexpr std::int64_t kCount = 560;
  for (const std::size_t bucket_bytes : {0, 100, 100000}) {
    const Tensor gradients = Tensor::zeros({kCount}, DType::kFloat32);
    qm::GradientReducer reducer(world(), gradients, ranges, bucket_bytes);
    for (int round = 0; round < 3; ++round) {
      gradients.copy_from(own_tensor<float>(round, kCount));
      reducer.begin();
      for (std::size_t i = 0; i < ranges.size(); ++i) {  // every rank in an order of its own
        reducer.mark_ready((i + static_cast<std::size_t>(world().rank())) % ranges.size());
      }
      reducer.finish();
      EXPECT_EQ(gradients.to_vector<float>(), expected_sum<float>(round, kCount)) << "buckets of " << bucket_bytes;
    }
  }
}

/// Σᵢ weightᵢ as an op of its own, whose gradient is `slope` everywhere.
Tensor sloped_sum(const Tensor& weight, double slope) {
  const Tensor loss = Tensor::zeros({}, DType::kFloat64);
  qm::Tape::record("sloped_sum", {weight}, {loss}, [slope](qm::Backward& backward) {
    const Tensor grad = backward.accumulate(0);
    for (std::int64_t i = 0; i < grad.count(); ++i) grad.data<double>()[i] += slope;
  });
  return loss;
}

TEST(mpi_ranks, backward_announces_its_gradients) {
  const Tensor gradients = Tensor::zeros({8}, DType::kFloat64);
  qm::GradientReducer reducer(world(), gradients, {{0, 3}, {4, 4}}, 8);
  std::vector<Tensor> weights{Tensor::zeros({3}, DType::kFloat64), Tensor::zeros({4}, DType::kFloat64)};
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i].set_requires_grad();
    weights[i].set_grad(gradients.slice(i == 0 ? 0 : 4, weights[i].shape()));
    weights[i].set_grad_hook([&reducer, i] { reducer.mark_ready(i); });
  }
  for (const bool last_micro_batch : {false, true}) {
    qm::Tape tape;
    std::vector<Tensor> losses;
    {
      const qm::Tape::Recording recording(tape);
      for (const Tensor& weight : weights) losses.push_back(sloped_sum(weight, 1.0 + world().rank()));
    }
    if (last_micro_batch) reducer.begin();
    const Tensor one = Tensor::from(std::vector<double>{1}, {});
    tape.backward(losses, {one, one});
  }
  reducer.finish();
  const double sum = world().size() * (world().size() + 1);  // two micro-batches of Σ (1 + rank)
  EXPECT_EQ(gradients.to_vector<double>(), (std::vector<double>{sum, sum, sum, 0, sum, sum, sum, sum}));
}

// ---- how a job ends: run by tests/dist/environment_test.cpp, which looks at the job from outside --------------------

TEST(mpi_ranks, DISABLED_one_rank_aborts) {
  world();
  if (environment().rank() == 1) environment().abort(42);
  for (;;) world().barrier();
}

TEST(mpi_ranks, DISABLED_an_exception_leaves_the_environment) {
  const qm::Environment environment;
  const auto communicator = environment.make_communicator();
  if (environment.rank() == 1) throw qm::Error("rank 1 gives up");
  for (;;) communicator->barrier();
}

}  // namespace
