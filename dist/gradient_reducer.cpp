#include "dist/gradient_reducer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/base/error.h"

namespace qm {

GradientReducer::GradientReducer(Communicator& communicator, const Tensor& flat_gradients,
                                 std::vector<GradientRange> ranges, std::size_t bucket_bytes)
    : communicator_(communicator), ranges_(std::move(ranges)), bucket_of_(ranges_.size()), marked_(ranges_.size()) {
  check_ranges(flat_gradients.count());
  build_buckets(flat_gradients, bucket_bytes);
}

void GradientReducer::check_ranges(std::int64_t flat_count) const {
  std::int64_t end = 0;
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    const GradientRange& range = ranges_[i];
    QM_CHECK(range.offset >= end && range.count >= 0 && range.offset + range.count <= flat_count, ShapeError,
             "gradient of parameter ", i, ": expected a range within [", end, ", ", flat_count, "), got [",
             range.offset, ", ", range.offset + range.count, ")");
    end = range.offset + range.count;
  }
}

/// Cuts the flat tensor from its end: a bucket reaches from its first parameter's offset to where the previous bucket
/// began, so that the buckets cover everything from the first parameter on, and padding sums to padding.
void GradientReducer::build_buckets(const Tensor& flat_gradients, std::size_t bucket_bytes) {
  std::int64_t end = flat_gradients.count();
  std::size_t parameters = 0;
  for (std::size_t i = ranges_.size(); i-- > 0;) {
    bucket_of_[i] = buckets_.size();
    ++parameters;
    const std::int64_t count = end - ranges_[i].offset;
    const bool full = static_cast<std::size_t>(count) * size_of(flat_gradients.dtype()) >= bucket_bytes;
    if (!full && i > 0) continue;
    buckets_.push_back({flat_gradients.slice(ranges_[i].offset, {count}), parameters, parameters});
    end = ranges_[i].offset;
    parameters = 0;
  }
}

void GradientReducer::begin() {
  QM_CHECK(!active_, CommError, "gradient reducer: begin() before finish() of the round before");
  active_ = true;
  std::fill(marked_.begin(), marked_.end(), false);
  for (Bucket& bucket : buckets_) bucket.unmarked = bucket.parameters;
}

void GradientReducer::mark_ready(std::size_t index) {
  QM_CHECK(index < ranges_.size(), CommError, "gradient reducer: no parameter ", index, " among ", ranges_.size());
  if (!active_) return;
  QM_CHECK(!marked_[index], CommError, "gradient reducer: parameter ", index, " was marked ready twice");
  marked_[index] = true;
  --buckets_[bucket_of_[index]].unmarked;
  start_complete_buckets();
}

/// A bucket that is complete waits for those before it: every rank starts them in the same order.
void GradientReducer::start_complete_buckets() {
  while (requests_.size() < buckets_.size() && buckets_[requests_.size()].unmarked == 0) {
    requests_.push_back(communicator_.start_all_reduce_sum(buckets_[requests_.size()].gradients));
  }
}

void GradientReducer::finish() {
  QM_CHECK(active_, CommError, "gradient reducer: finish() without begin()");
  active_ = false;
  std::vector<std::unique_ptr<Request>> requests = std::exchange(requests_, {});
  std::string missing;
  for (std::size_t i = 0; i < marked_.size(); ++i) {
    if (!marked_[i]) missing += concat(missing.empty() ? "" : ", ", i);
  }
  QM_CHECK(missing.empty(), CommError, "gradient reducer: no gradient came for parameter ", missing);
  for (const auto& request : requests) request->wait();
}

}  // namespace qm
