// Seconds of work for a GPU, behind which a test sees what waits for the device and what does not.
#pragma once

#include <chrono>

#include "autograd/tensor.h"
#include "kernels/linear.h"
#include "tests/support/gpu.h"

namespace qm::test {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Work on the current stream, in few launches: a GPU takes only so many ahead.
class GpuWork {
 public:
  explicit GpuWork(double seconds) {
    queue();
    synchronize(y_.stream());
    const auto start = Clock::now();
    queue();
    synchronize(y_.stream());
    calls_ = static_cast<int>(seconds / seconds_since(start)) + 1;
  }
  void queue_all() const {
    for (int i = 0; i < calls_; ++i) queue();
  }

 private:
  static constexpr std::int64_t kSize = 8192;
  void queue() const {
    linear_forward<float>(y_.stream(), {.rows = kSize,
                                        .in = kSize,
                                        .out = kSize,
                                        .x = x_.data<float>(),
                                        .weight = x_.data<float>(),
                                        .bias = nullptr,
                                        .y = y_.data<float>()});
  }
  Tensor x_ = Tensor::zeros({kSize, kSize}, DType::kFloat32, kGpu), y_ = Tensor::empty(x_.shape(), x_.dtype(), kGpu);
  int calls_ = 0;
};

}  // namespace qm::test
