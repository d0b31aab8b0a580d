// Small tensors for tests, made and read in one line.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/tensor.h"
#include "kernels/base/philox.h"

namespace qm {

/// Uniform numbers in (low, high), the same for the same seed everywhere.
inline Tensor random_tensor(const Shape& shape, std::uint64_t seed, double low = -1, double high = 1) {
  std::vector<double> values(static_cast<std::size_t>(count_of(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const PhiloxBlock random = philox(seed, RandomPurpose::kSynthetic, 0, 0, static_cast<std::uint32_t>(i));
    values[i] = low + (high - low) * uniform_open_double(random.word[0], random.word[1]);
  }
  return Tensor::from(values, shape);
}

inline Tensor doubles(const Shape& shape, const std::vector<double>& values) {
  return Tensor::from(values, shape);
}
inline Tensor filled(const Shape& shape, double value) {
  return Tensor::from(std::vector<double>(static_cast<std::size_t>(count_of(shape)), value), shape);
}
inline Tensor integers(const std::vector<std::int32_t>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}
inline std::vector<double> values_of(const Tensor& tensor) {
  return tensor.to_vector<double>();
}
/// The same of any numbers, on any device.
inline std::vector<double> doubles_of(const Tensor& tensor) {
  if (tensor.dtype() != DType::kInt32) return values_of(tensor.to(DType::kFloat64));
  const auto values = tensor.to_vector<std::int32_t>();
  return {values.begin(), values.end()};
}

}  // namespace qm
