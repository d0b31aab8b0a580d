#include "layers/parameters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "tests/support/models.h"

namespace qm {
namespace {

// Wide enough that the narrowest parameter that is looked at by its spread has hundreds of numbers.
const TestModel& initialized() {
  static const TestModel model({.dim = 32, .depths = {1, 1, 1, 1}, .classes = 10, .state_size = 3}, 42);
  return model;
}

std::vector<double> initial_values(const std::string& name) {
  const Parameter* parameter = initialized().store.find(name);
  QM_CHECK(parameter, Error, "no parameter ", name);
  return values_of(parameter->tensor);
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

/// Mean and spread of independent numbers with the given deviation, within 4.5 standard errors.
void expect_spread(const std::string& name, double deviation) {
  const auto values = initial_values(name);
  const double root = std::sqrt(static_cast<double>(values.size()));
  EXPECT_NEAR(mean_of(values), 0, 4.5 * deviation / root) << name;
  EXPECT_NEAR(deviation_of(values), deviation, 4.5 * deviation / (std::sqrt(2.0) * root)) << name;
}

void expect_uniform(const std::string& name, double bound) {
  expect_spread(name, bound / std::sqrt(3.0));
  const auto values = initial_values(name);
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  EXPECT_GE(*low, -bound) << name;
  EXPECT_LE(*high, bound) << name;
  EXPECT_GT(*high, 0.9 * bound) << name;
}

bool is_linear_weight(const Parameter& parameter) {
  return parameter.shape.size() == 2 && parameter.name.ends_with(".weight");
}

TEST(layers, parameters_linear_weights_are_normal_with_sigma_002) {
  int weights = 0;
  for (const auto& parameter : initialized().store.list()) {
    if (!is_linear_weight(parameter)) continue;
    ++weights;
    expect_spread(parameter.name, 0.02);
  }
  EXPECT_EQ(weights, 4 * 4 + 2 * 4 + 1);  // in_proj, out_proj, fc1, fc2; predictors; head
  // Not uniform: 1.24 % of a normal distribution lies beyond 2.5 σ.
  const auto values = initial_values("layers.3.blocks.0.mlp.fc1.weight");
  const auto tail = std::count_if(values.begin(), values.end(), [](double v) { return std::abs(v) > 0.05; });
  EXPECT_NEAR(static_cast<double>(tail) / static_cast<double>(values.size()), 0.01242, 0.001);
}

TEST(layers, parameters_norms_and_biases_start_neutral) {
  for (const auto& parameter : initialized().store.list()) {
    const std::string_view name = parameter.name;
    const bool convolution = name.starts_with("patch_embed.0.") || name.starts_with("patch_embed.5.") ||
                             name.find("downsample.1.") != name.npos;
    if (parameter.shape.size() != 1 || convolution) continue;
    const double expected = name.ends_with(".bias") ? 0 : 1;  // LayerNorm's weights and Ds are 1
    for (const double value : values_of(parameter.tensor)) ASSERT_EQ(value, expected) << name;
  }
}

TEST(layers, parameters_convolutions_are_uniform_within_one_over_root_fan_in) {
  expect_uniform("patch_embed.0.weight", 1 / std::sqrt(27.0));
  expect_uniform("patch_embed.5.weight", 1 / std::sqrt(9.0 * 16));
  expect_uniform("layers.1.downsample.1.weight", 1 / std::sqrt(9.0 * 64));
  expect_uniform("layers.1.downsample.1.bias", 1 / std::sqrt(9.0 * 64));
  expect_uniform("layers.2.blocks.0.op.conv2d.weight", 1.0 / 3);
}

// Each filter has one weight in each of 27 equal parts of the interval, in an order of its own; over filters and seeds a
// weight is as uniform as ever, and no other parameter changes.
TEST(layers, parameters_stratified_stem_filters_are_even_samples) {
  constexpr std::int64_t kFilter = 27;
  const double bound = 1 / std::sqrt(27.0), width = 2 * bound / kFilter;
  QuadMambaConfig config{.dim = 32, .depths = {1, 1, 1, 1}, .classes = 10, .state_size = 3};
  const TestModel independent(config, 7);
  config.stem_filters = FilterSampling::kStratified;
  std::vector<double> first_weights;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const TestModel model(config, seed);
    const auto weights = values_of(model.store.find("patch_embed.0.weight")->tensor);
    std::vector<std::vector<int>> orders;
    for (std::size_t filter = 0; filter < weights.size(); filter += kFilter) {
      std::vector<int> order;
      for (std::size_t i = filter; i < filter + kFilter; ++i) {
        order.push_back(static_cast<int>(std::floor((weights[i] + bound) / width)));
      }
      orders.push_back(order);
      std::sort(order.begin(), order.end());
      for (int part = 0; part < kFilter; ++part) ASSERT_EQ(order[static_cast<std::size_t>(part)], part);
      first_weights.push_back(weights[filter]);
    }
    std::sort(orders.begin(), orders.end());
    EXPECT_EQ(std::adjacent_find(orders.begin(), orders.end()), orders.end()) << "two filters of one order";
    if (seed != 7) continue;
    for (const auto& parameter : model.store.list()) {
      const bool same = values_of(parameter.tensor) == values_of(independent.store.find(parameter.name)->tensor);
      EXPECT_EQ(same, parameter.name != "patch_embed.0.weight") << parameter.name;
    }
  }
  const double deviation = bound / std::sqrt(3.0), root = std::sqrt(static_cast<double>(first_weights.size()));
  EXPECT_NEAR(mean_of(first_weights), 0, 4.5 * deviation / root);
  EXPECT_NEAR(deviation_of(first_weights), deviation, 4.5 * deviation / (std::sqrt(2.0) * root));
}

TEST(layers, parameters_scan_weights) {
  // Stage 1: C = 64, D = 128, R = 4, K = 2; stage 3: C = 256, D = 512, R = 16, K = 4.
  expect_uniform("layers.1.blocks.0.op.x_proj_weight", 1 / std::sqrt(128.0));
  expect_uniform("layers.1.blocks.0.op.dt_projs_weight", 1 / std::sqrt(4.0));
  expect_uniform("layers.3.blocks.0.op.dt_projs_weight", 1 / std::sqrt(16.0));
  const auto A_logs = initial_values("layers.1.blocks.0.op.A_logs");
  for (std::size_t i = 0; i < A_logs.size(); ++i) ASSERT_EQ(A_logs[i], std::log(static_cast<double>(i % 3 + 1)));
}

// softplus(bias) is a time step, its logarithm uniform between ln 1e-3 and ln 1e-1.
TEST(layers, parameters_dt_bias_is_a_log_uniform_time_step) {
  std::vector<double> logarithms;
  for (const double bias : initial_values("layers.3.blocks.0.op.dt_projs_bias")) {
    const double step = std::log1p(std::exp(bias));
    EXPECT_GE(step, 1e-3 * (1 - 1e-9));
    EXPECT_LE(step, 1e-1 * (1 + 1e-9));
    logarithms.push_back(std::log(step));
  }
  const double width = std::log(100.0), root = std::sqrt(static_cast<double>(logarithms.size()));
  EXPECT_NEAR(mean_of(logarithms), std::log(1e-2), 4.5 * width / std::sqrt(12.0) / root);
  EXPECT_NEAR(deviation_of(logarithms), width / std::sqrt(12.0), 0.05 * width);
}

TEST(layers, parameters_follow_the_seed_alone) {
  const TestModel first(tiny_config(), 1), again(tiny_config(), 1), other(tiny_config(), 2);
  EXPECT_EQ(values_of(first.store.values()), values_of(again.store.values()));
  EXPECT_NE(values_of(first.store.values()), values_of(other.store.values()));
  // Parameters of one shape are not copies of one another.
  EXPECT_NE(values_of(first.store.find("layers.1.blocks.0.mlp.fc1.weight")->tensor),
            values_of(first.store.find("layers.1.blocks.1.mlp.fc1.weight")->tensor));
}

TEST(layers, parameters_are_the_same_numbers_in_every_dtype) {
  const TestModel wide(tiny_config(), 1), narrow(tiny_config(), 1, DType::kFloat32);
  EXPECT_EQ(wide.store.values().to(DType::kFloat32).to_vector<float>(), narrow.store.values().to_vector<float>());
}

// Every parameter is a leaf on the flat buffer, aligned, disjoint, with its gradient at the same place.
TEST(layers, parameters_lie_on_flat_buffers) {
  const ParameterStore& store = initialized().store;
  std::int64_t end = 0;
  for (const auto& parameter : store.list()) {
    EXPECT_GE(parameter.offset, end) << parameter.name;
    EXPECT_EQ(parameter.offset % 64, 0) << parameter.name;
    end = parameter.offset + parameter.count();
    EXPECT_EQ(parameter.tensor.raw(), store.values().data<double>() + parameter.offset);
    EXPECT_EQ(parameter.tensor.grad().raw(), store.gradients().data<double>() + parameter.offset);
    EXPECT_TRUE(parameter.tensor.requires_grad());
    EXPECT_EQ(parameter.tensor.shape(), parameter.shape);
  }
  EXPECT_LE(end, store.values().count());
}

TEST(layers, parameters_decay_by_shape_and_name) {
  const ParameterStore& store = initialized().store;
  const auto decays = [&](const char* name) { return store.find(name)->decays(); };
  EXPECT_TRUE(decays("patch_embed.0.weight"));
  EXPECT_FALSE(decays("patch_embed.0.bias"));
  EXPECT_FALSE(decays("layers.0.blocks.0.norm.weight"));
  EXPECT_TRUE(decays("layers.0.blocks.0.op.A_logs"));
  EXPECT_TRUE(decays("layers.0.blocks.0.op.dt_projs_bias"));
  EXPECT_FALSE(decays("layers.0.blocks.0.op.Ds"));
  EXPECT_TRUE(decays("classifier.head.weight"));
  EXPECT_FALSE(decays("classifier.head.bias"));
}

TEST(layers, parameters_reject_a_name_taken_twice) {
  ParameterStore store;
  const Scope scope = Scope(store).child("a");
  scope.parameter("weight", {2}, initial::constant(0));
  try {
    scope.parameter("weight", {2}, initial::constant(0));
    FAIL() << "took the name twice";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "parameter 'a.weight' is registered twice");
  }
  EXPECT_EQ(store.find("a.bias"), nullptr);
}

}  // namespace
}  // namespace qm
