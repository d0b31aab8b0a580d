#include "layers/parameters.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "kernels/base/philox.h"

namespace qm {
namespace {

/// Parameters start on 256-byte boundaries in every dtype, so that vector loads and bucket copies are aligned.
constexpr std::int64_t kAlignElements = 64;

PhiloxBlock random_words(std::uint64_t seed, std::uint32_t parameter, std::int64_t index, std::uint32_t draw) {
  return philox(seed, RandomPurpose::kInitialization, static_cast<std::uint32_t>(index >> 32), parameter,
                static_cast<std::uint32_t>(index), draw);
}

}  // namespace

double InitialRandom::uniform(std::int64_t index, double low, double high) const {
  const PhiloxBlock words = random_words(seed_, parameter_, index, 0);
  return low + (high - low) * uniform_open_double(words.word[0], words.word[1]);
}

double InitialRandom::normal(std::int64_t index) const {
  const PhiloxBlock words = random_words(seed_, parameter_, index, 0);
  const double radius = std::sqrt(-2 * std::log(uniform_open_double(words.word[0], words.word[1])));
  return radius * std::cos(2 * std::numbers::pi * uniform_open_double(words.word[2], words.word[3]));
}

std::int64_t InitialRandom::place_in_group(std::int64_t index, std::int64_t size) const {
  const auto key = [&](std::int64_t element) {
    const PhiloxBlock words = random_words(seed_, parameter_, element, 1);
    return std::pair(static_cast<std::uint64_t>(words.word[0]) << 32 | words.word[1], element);
  };
  const std::int64_t first = index / size * size;
  std::int64_t place = 0;
  for (std::int64_t other = first; other < first + size; ++other) place += key(other) < key(index);
  return place;
}

bool Parameter::decays() const { return shape.size() > 1 && !name.ends_with(".bias"); }

Parameter* ParameterStore::add(std::string name, Shape shape, Initializer initial) {
  QM_CHECK(!find(name), Error, "parameter '", name, "' is registered twice");
  Parameter& added = parameters_.emplace_back(
      Parameter{.name = std::move(name), .shape = std::move(shape), .initial = std::move(initial), .tensor = {}});
  by_name_[added.name] = &added;
  return &added;
}

void ParameterStore::allocate(DType dtype, Device device, std::uint64_t seed, DType activations) {
  std::int64_t total = 0;
  for (auto& parameter : parameters_) {
    parameter.offset = total;
    total += (parameter.count() + kAlignElements - 1) / kAlignElements * kAlignElements;
  }
  const Tensor host = Tensor::zeros({total}, dtype);
  visit_real(dtype, "parameters", [&]<class T>() {
    std::uint32_t number = 0;
    for (const auto& parameter : parameters_) {
      const InitialRandom random(seed, number++);
      T* values = host.data<T>() + parameter.offset;
#pragma omp parallel for schedule(static) if (parameter.count() > 4096)
      for (std::int64_t i = 0; i < parameter.count(); ++i) values[i] = static_cast<T>(parameter.initial(random, i));
    }
  });
  values_ = Tensor::empty({total}, dtype, device);
  values_.copy_from(host);
  gradients_ = Tensor::zeros({total}, dtype, device);
  activations_ = activations;
  if (activations != dtype) rounded_ = Tensor::empty({total}, activations, device);
  round();
  for (auto& parameter : parameters_) {
    parameter.tensor = view(parameter, values_);
    parameter.tensor.set_requires_grad();
    parameter.tensor.set_grad(view(parameter, gradients_));
    if (rounded_.defined()) parameter.tensor.set_rounded(view(parameter, rounded_));
  }
}

void ParameterStore::round() const {
  if (rounded_.defined()) rounded_.cast_from(values_);
}

const Parameter* ParameterStore::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::int64_t ParameterStore::count() const {
  std::int64_t count = 0;
  for (const auto& parameter : parameters_) count += parameter.count();
  return count;
}

namespace initial {

Initializer constant(double value) {
  return [value](const InitialRandom&, std::int64_t) { return value; };
}

Initializer uniform(double bound) {
  return [bound](const InitialRandom& random, std::int64_t index) { return random.uniform(index, -bound, bound); };
}

Initializer stratified_uniform(double bound, std::int64_t group) {
  return [bound, group](const InitialRandom& random, std::int64_t index) {
    const double width = 2 * bound / static_cast<double>(group);
    const double low = -bound + width * static_cast<double>(random.place_in_group(index, group));
    return random.uniform(index, low, low + width);
  };
}

Initializer truncated_normal(double sigma) {
  // The cut at ±2 lies a hundred σ out for the σ = 0.02 in use: clamping equals redrawing there.
  return [sigma](const InitialRandom& random, std::int64_t index) {
    return std::clamp(sigma * random.normal(index), -2.0, 2.0);
  };
}

}  // namespace initial

}  // namespace qm
