// Tests on a GPU: suite `gpu`, which ctest labels so. Where there is none they report themselves skipped.
#pragma once

#include <gtest/gtest.h>

#include "autograd/tensor.h"
#include "kernels/base/step_record.h"

namespace qm::test {

inline constexpr Device kGpu{DeviceType::kCuda, 0};

/// Skips the rest of the test, or of the function of the test that it stands in.
#define QM_NEEDS_GPU() \
  if (::qm::cuda_device_count() == 0) GTEST_SKIP() << "no GPU, or a build without CUDA"

/// The record in the device's memory, where kernels read it.
inline Tensor record_tensor(const StepRecord& record, Device device) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&record);
  return Tensor::from(std::vector<std::uint8_t>(bytes, bytes + sizeof record), {sizeof record}).to(device);
}

}  // namespace qm::test
