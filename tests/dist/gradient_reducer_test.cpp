#include "dist/gradient_reducer.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>

#include "kernels/base/error.h"

namespace {

using qm::DType;
using qm::GradientReducer;
using qm::Tensor;

/// Stands for a group in which every other rank has the same gradients times zero, and writes down what is summed.
class RecordingCommunicator final : public qm::Communicator {
 public:
  struct Event {
    std::int64_t offset = 0;
    std::int64_t count = 0;
    bool waited = false;

    friend bool operator==(const Event&, const Event&) = default;
  };

  explicit RecordingCommunicator(const Tensor& flat) : flat_(flat) {}
  std::vector<Event> events;

  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  const char* name() const override { return "recording"; }

  std::unique_ptr<qm::Request> start_all_reduce_sum(const Tensor& tensor) override {
    events.push_back({tensor.data<float>() - flat_.data<float>(), tensor.count()});
    return std::make_unique<RecordingRequest>(*this, events.size() - 1);
  }
  void broadcast(const Tensor&, int) override {}
  void broadcast_bytes(std::vector<char>&, int) override {}
  std::vector<std::string> all_gather_bytes(const std::string& bytes) override { return {bytes}; }
  double all_reduce_max(double value) override { return value; }
  void barrier() override {}

 private:
  class RecordingRequest final : public qm::Request {
   public:
    RecordingRequest(RecordingCommunicator& comm, std::size_t event) : comm_(comm), event_(event) {}
    void wait() override { comm_.events[event_].waited = true; }

   private:
    RecordingCommunicator& comm_;
    std::size_t event_;
  };

  Tensor flat_;
};

using Events = std::vector<RecordingCommunicator::Event>;

/// Four parameters with padding behind each but the last: [0,10) [16,17) [32,50) [64,68) of 68.
const std::vector<qm::GradientRange> kRanges{{0, 10}, {16, 1}, {32, 18}, {64, 4}};

class Reduction {
 public:
  explicit Reduction(std::size_t bucket_bytes)
      : flat_(Tensor::zeros({68}, DType::kFloat32)), comm(flat_), reducer(comm, flat_, kRanges, bucket_bytes) {}

 private:
  Tensor flat_;

 public:
  RecordingCommunicator comm;
  GradientReducer reducer;
};

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const qm::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(dist, buckets_cover_padding_and_start_from_the_last) {
  Reduction r(0);  // a bucket a parameter
  EXPECT_EQ(r.reducer.buckets(), 4u);
  r.reducer.begin();
  for (const std::size_t index : {3, 2, 1, 0}) r.reducer.mark_ready(index);
  EXPECT_EQ(r.comm.events, (Events{{64, 4}, {32, 32}, {16, 16}, {0, 16}}));  // started, before finish()
  r.reducer.finish();
  EXPECT_EQ(r.comm.events, (Events{{64, 4, true}, {32, 32, true}, {16, 16, true}, {0, 16, true}}));
}

TEST(dist, buckets_close_at_their_size) {
  Reduction r(36 * sizeof(float));  // parameters 3 and 2 fill one bucket exactly; 1 and 0 are the rest
  r.reducer.begin();
  r.reducer.mark_ready(3);
  EXPECT_EQ(r.comm.events, Events{});
  r.reducer.mark_ready(2);
  EXPECT_EQ(r.comm.events, (Events{{32, 36}}));
  r.reducer.mark_ready(0);
  r.reducer.mark_ready(1);
  EXPECT_EQ(r.comm.events, (Events{{32, 36}, {0, 32}}));
  r.reducer.finish();
}

TEST(dist, buckets_start_in_one_order_whatever_the_order_of_marks) {
  Reduction r(0);
  r.reducer.begin();
  for (const std::size_t index : {0, 2, 1}) r.reducer.mark_ready(index);
  EXPECT_EQ(r.comm.events, Events{});  // all wait for the last parameter's bucket
  r.reducer.mark_ready(3);
  EXPECT_EQ(r.comm.events, (Events{{64, 4}, {32, 32}, {16, 16}, {0, 16}}));
  r.reducer.finish();
}

TEST(dist, marks_outside_a_round_do_not_count) {
  Reduction r(1 << 20);
  r.reducer.mark_ready(1);  // an earlier micro-batch
  for (int round = 1; round <= 2; ++round) {
    r.reducer.begin();
    for (const std::size_t index : {3, 2, 1, 0}) r.reducer.mark_ready(index);
    r.reducer.finish();
    EXPECT_EQ(r.comm.events.size(), static_cast<std::size_t>(round));
  }
}

TEST(dist, a_parameter_without_gradient_is_named) {
  Reduction r(0);
  r.reducer.begin();
  r.reducer.mark_ready(3);
  r.reducer.mark_ready(0);
  EXPECT_EQ(error_of([&] { r.reducer.finish(); }), "gradient reducer: no gradient came for parameter 1, 2");
}

TEST(dist, misuse_of_the_reducer_is_named) {
  Reduction r(0);
  EXPECT_EQ(error_of([&] { r.reducer.finish(); }), "gradient reducer: finish() without begin()");
  EXPECT_EQ(error_of([&] { r.reducer.mark_ready(4); }), "gradient reducer: no parameter 4 among 4");
  r.reducer.begin();
  r.reducer.mark_ready(2);
  EXPECT_EQ(error_of([&] { r.reducer.mark_ready(2); }), "gradient reducer: parameter 2 was marked ready twice");
  EXPECT_EQ(error_of([&] { r.reducer.begin(); }), "gradient reducer: begin() before finish() of the round before");
}

TEST(dist, ranges_that_do_not_fit_are_named) {
  const Tensor flat = Tensor::zeros({20}, DType::kFloat32);
  const auto comm = qm::make_single_communicator();
  const auto error = [&](std::vector<qm::GradientRange> ranges) {
    return error_of([&] { GradientReducer(*comm, flat, std::move(ranges), 0); });
  };
  EXPECT_EQ(error({{0, 10}, {8, 4}}), "gradient of parameter 1: expected a range within [10, 20), got [8, 12)");
  EXPECT_EQ(error({{0, 10}, {12, 9}}), "gradient of parameter 1: expected a range within [10, 20), got [12, 21)");
}

}  // namespace
