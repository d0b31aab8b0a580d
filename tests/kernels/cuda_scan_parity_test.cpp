// The three scans on a GPU against the CPU: outputs and every gradient, over awkward sizes.
//
// Both float runs are compared with the CPU's in double. CUDA sums in another order than the CPU, so it is not to agree
// with it bit for bit, but it may not be further from the truth than float arithmetic takes it anyway.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "autograd/ops/cross_scan.h"
#include "autograd/ops/quad_scan.h"
#include "autograd/ops/selective_scan.h"
#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

// ---- running an op somewhere ---------------------------------------------------------------------------------------

const Device kGpu{DeviceType::kCuda, 0};

struct Result {
  std::string name;
  std::vector<double> values;
};

/// An op on tensors in the order of the named inputs.
using Op = std::function<Tensor(const std::vector<Tensor>& inputs)>;

Tensor on_device(const Tensor& tensor, Device device) {
  const Tensor copy = Tensor::empty(tensor.shape(), tensor.dtype(), device);
  copy.copy_from(tensor);
  return copy;
}

/// The op's output and the gradients of its inputs under a random cotangent. Every gradient starts from numbers that
/// are not zero: backward has to add to them.
std::vector<Result> run(const std::vector<NamedTensor>& inputs, const Op& op, DType dtype, Device device) {
  const auto prepare = [&](const Tensor& values) { return on_device(values.to(dtype), device); };
  std::vector<Tensor> leaves;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    leaves.push_back(prepare(inputs[i].tensor));
    leaves.back().set_requires_grad().set_grad(prepare(random_tensor(inputs[i].tensor.shape(), 500 + i)));
  }
  Tape tape;
  Tensor output;
  {
    Tape::Recording recording(tape);
    output = op(leaves);
  }
  std::vector<Result> results{{"output", doubles_of(output)}};
  tape.backward({output}, {prepare(random_tensor(output.shape(), 1000))});
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    results.push_back({"gradient of " + inputs[i].name, doubles_of(leaves[i].grad())});
  }
  return results;
}

// ---- judging -------------------------------------------------------------------------------------------------------

/// Rounding errors of a float sum of some hundred terms, against its norm.
constexpr double kRoundingFloor = 2e-6;
/// How much further from the truth than the CPU's float another order of the same sums may lie.
constexpr double kOrderFactor = 4;

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

double norm(const std::vector<double>& a) {
  return distance(a, std::vector<double>(a.size()));
}

/// Compares CUDA with the CPU and with itself. `inputs` hold doubles that floats represent exactly.
void expect_parity(const std::vector<NamedTensor>& inputs, const Op& op) {
  const auto exact = run(inputs, op, DType::kFloat64, {});
  const auto cpu = run(inputs, op, DType::kFloat32, {});
  const auto cuda = run(inputs, op, DType::kFloat32, kGpu);
  const auto again = run(inputs, op, DType::kFloat32, kGpu);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double allowed =
        std::max(kOrderFactor * distance(cpu[i].values, exact[i].values), kRoundingFloor * norm(exact[i].values));
    const double error = distance(cuda[i].values, exact[i].values);
    EXPECT_FALSE(error > allowed || std::isnan(error))
        << exact[i].name << ": ‖error‖ " << error << ", allowed " << allowed << ", of " << norm(exact[i].values);
    EXPECT_EQ(cuda[i].values, again[i].values) << exact[i].name << ": two runs differ";
  }
}

/// Uniform numbers that floats represent exactly.
Tensor random_floats(const Shape& shape, std::uint64_t seed, double low = -1, double high = 1) {
  return random_tensor(shape, seed, low, high).to(DType::kFloat32).to(DType::kFloat64);
}

#define QM_SKIP_WITHOUT_GPU() \
  if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU here"

// ---- selective scan ------------------------------------------------------------------------------------------------

struct SelectiveCase {
  std::int64_t batch, length, directions, channels, states;
  double largest_delta = 2;
};

void expect_selective_parity(const SelectiveCase& c) {
  SCOPED_TRACE(concat("B ", c.batch, ", L ", c.length, ", K ", c.directions, ", D ", c.channels, ", N ", c.states));
  const Shape tokens{c.batch, c.length, c.directions, c.channels}, states{c.batch, c.length, c.directions, c.states};
  const std::int64_t rows = c.directions * c.channels;
  expect_parity({{"u", random_floats(tokens, 1)},
                 {"delta", random_floats(tokens, 2, -c.largest_delta, c.largest_delta)},
                 {"A", random_floats({rows, c.states}, 3, -2, -0.1)},
                 {"B", random_floats(states, 4)},
                 {"C", random_floats(states, 5)},
                 {"D", random_floats({rows}, 6)},
                 {"delta_bias", random_floats({rows}, 7)}},
                [](const std::vector<Tensor>& in) {
                  return selective_scan({in[0], in[1], in[2], in[3], in[4], in[5], in[6]});
                });
}

TEST(gpu, selective_scan_lengths_around_every_edge) {
  QM_SKIP_WITHOUT_GPU();
  // Tiles of 16 tokens, blocks of 128, 8 tiles ahead when they are combined.
  for (const std::int64_t length : {1, 2, 15, 16, 17, 31, 33, 127, 128, 129, 255, 256, 257, 1100}) {
    expect_selective_parity({2, length, 2, 5, 1});
    expect_selective_parity({1, length, 1, 33, 3});
  }
}

TEST(gpu, selective_scan_channels_and_states) {
  QM_SKIP_WITHOUT_GPU();
  for (const std::int64_t channels : {1, 32, 127, 129, 192, 384}) {
    for (const std::int64_t states : {1, 3, 16}) expect_selective_parity({2, 37, 2, channels, states});
  }
  expect_selective_parity({3, 40, 3, 40, 17});
  expect_selective_parity({3, 40, 1, 7, 33});
}

TEST(gpu, selective_scan_softplus_on_both_sides_of_its_threshold) {
  QM_SKIP_WITHOUT_GPU();
  expect_selective_parity({2, 150, 1, 48, 2, 30});
}

TEST(gpu, selective_scan_many_images) {
  QM_SKIP_WITHOUT_GPU();
  expect_selective_parity({700, 20, 1, 3, 1});
}

// ---- the cores' scans ----------------------------------------------------------------------------------------------

struct CoreSize {
  std::int64_t batch, channels, states, rank;

  std::string describe() const { return concat("B ", batch, ", D ", channels, ", N ", states, ", R ", rank); }
};

/// x, projection and the four weights of a map for K directions.
std::vector<NamedTensor> core_inputs(const CoreSize& s, std::int64_t height, std::int64_t width, std::int64_t K) {
  const double weight_range = 1 / std::sqrt(static_cast<double>(s.rank));
  return {{"x", random_floats({s.batch, height, width, s.channels}, 1)},
          {"projection", random_floats({s.batch, height, width, K * (s.rank + 2 * s.states)}, 2)},
          {"dt_projs_weight", random_floats({K, s.channels, s.rank}, 3, -weight_range, weight_range)},
          {"dt_projs_bias", random_floats({K, s.channels}, 4, -3, 0)},
          {"A_logs", random_floats({K * s.channels, s.states}, 5)},
          {"Ds", random_floats({K * s.channels}, 6)}};
}

CoreScanWeights core_weights(const std::vector<Tensor>& in) {
  return {in[2], in[3], in[4], in[5]};
}

void expect_cross_parity(const CoreSize& s, std::int64_t height, std::int64_t width) {
  SCOPED_TRACE(concat("cross ", height, "x", width, ", ", s.describe()));
  expect_parity(core_inputs(s, height, width, 4),
                [](const std::vector<Tensor>& in) { return cross_scan(in[0], in[1], core_weights(in)); });
}

TEST(gpu, cross_scan_maps_around_every_edge) {
  QM_SKIP_WITHOUT_GPU();
  struct Map {
    std::int64_t height, width;
  };
  for (const Map map : {Map{1, 1},
                        {1, 2},
                        {3, 5},
                        {4, 4},
                        {17, 1},
                        {1, 31},
                        {3, 11},
                        {1, 127},
                        {8, 16},
                        {3, 43},
                        {5, 51},
                        {16, 16},
                        {1, 257},
                        {7, 7},
                        {44, 25}}) {
    expect_cross_parity({2, 5, 1, 3}, map.height, map.width);
  }
}

TEST(gpu, cross_scan_channels_states_and_ranks) {
  QM_SKIP_WITHOUT_GPU();
  for (const std::int64_t channels : {1, 32, 129, 192, 384}) {
    for (const std::int64_t states : {1, 3, 16}) {
      for (const std::int64_t rank : {1, 3, 24}) expect_cross_parity({1, channels, states, rank}, 5, 7);
    }
  }
  expect_cross_parity({2, 40, 1, 48}, 7, 7);
  expect_cross_parity({2, 40, 17, 65}, 3, 6);
  expect_cross_parity({2, 384, 1, 48}, 5, 7);  // sums over few long rows
}

struct QuadCase {
  CoreSize size;
  std::int64_t height, width;
  QuadScanGeometry geometry;
};

void expect_quad_parity(const QuadCase& c) {
  const QuadScanGeometry& g = c.geometry;
  SCOPED_TRACE(concat(g.fine_order == FineOrder::kQuadtree ? "quadtree " : "window_raster ", c.height, "x", c.width,
                      " to ", g.out_height, "x", g.out_width, ", roll ", g.roll_h, ",", g.roll_w, ", ",
                      c.size.describe()));
  std::vector<NamedTensor> inputs = core_inputs(c.size, c.height, c.width, 2);
  std::vector<std::int32_t> selected;
  std::vector<double> one_hot(static_cast<std::size_t>(c.size.batch * 4));
  for (std::int64_t b = 0; b < c.size.batch; ++b) {
    selected.push_back(static_cast<std::int32_t>((b * 3 + c.height / 4) % 4));
    one_hot[static_cast<std::size_t>(b * 4 + selected.back())] = 1;
  }
  inputs.push_back({"one_hot", doubles({c.size.batch, 4}, one_hot)});
  expect_parity(inputs, [&](const std::vector<Tensor>& in) {
    const QuadrantChoice choice{in[6], on_device(integers(selected), in[0].device())};
    return quad_scan(in[0], in[1], choice, core_weights(in), g);
  });
}

TEST(gpu, quad_scan_maps_rolls_and_crops) {
  QM_SKIP_WITHOUT_GPU();
  const CoreSize size{4, 5, 1, 3};
  for (const FineOrder order : {FineOrder::kQuadtree, FineOrder::kWindowRaster}) {
    expect_quad_parity({size, 4, 4, {0, 0, order, 4, 4}});
    expect_quad_parity({size, 4, 8, {1, -1, order, 3, 7}});
    expect_quad_parity({size, 8, 8, {1, 1, order, 8, 8}});
    expect_quad_parity({size, 4, 28, {-1, -1, order, 4, 28}});
    expect_quad_parity({size, 16, 8, {2, 2, order, 15, 6}});
    expect_quad_parity({size, 12, 12, {-1, 1, order, 10, 11}});
    expect_quad_parity({size, 60, 4, {0, 0, order, 57, 1}});
    expect_quad_parity({size, 16, 16, {2, -2, order, 14, 16}});
    expect_quad_parity({size, 4, 68, {30, -70, order, 4, 65}});
    expect_quad_parity({size, 32, 36, {4, -4, order, 32, 33}});
  }
}

TEST(gpu, quad_scan_channels_states_and_ranks) {
  QM_SKIP_WITHOUT_GPU();
  for (const FineOrder order : {FineOrder::kQuadtree, FineOrder::kWindowRaster}) {
    for (const std::int64_t channels : {1, 32, 192, 384}) {
      for (const std::int64_t states : {1, 3, 16}) {
        for (const std::int64_t rank : {1, 3, 24}) {
          expect_quad_parity({{1, channels, states, rank}, 4, 12, {1, 1, order, 3, 11}});
        }
      }
    }
    expect_quad_parity({{2, 40, 1, 48}, 8, 8, {-1, 1, order, 8, 8}});
    expect_quad_parity({{2, 40, 17, 65}, 4, 8, {0, 0, order, 4, 8}});
  }
}

TEST(gpu, quad_scan_many_images) {
  QM_SKIP_WITHOUT_GPU();
  expect_quad_parity({{600, 3, 1, 1}, 4, 4, {0, 0, FineOrder::kWindowRaster, 4, 3}});
}

// Weights that ask for no gradient hand the kernels null pointers, and change nothing else.
TEST(gpu, scans_leave_frozen_weights_alone) {
  QM_SKIP_WITHOUT_GPU();
  const auto gradient_of_x = [](bool frozen) {
    std::vector<Tensor> in;
    for (const auto& [name, values] : core_inputs({2, 6, 2, 3}, 5, 6, 4)) {
      in.push_back(on_device(values.to(DType::kFloat32), kGpu));
      in.back().set_requires_grad(!frozen || in.size() == 1);
    }
    Tape tape;
    Tensor z;
    {
      Tape::Recording recording(tape);
      z = cross_scan(in[0], in[1], core_weights(in));
    }
    tape.backward({z}, {on_device(random_tensor(z.shape(), 9).to(DType::kFloat32), kGpu)});
    for (std::size_t i = 1; i < in.size(); ++i) EXPECT_EQ(in[i].grad().defined(), !frozen) << i;
    return doubles_of(in[0].grad());
  };
  EXPECT_EQ(gradient_of_x(true), gradient_of_x(false));
}

TEST(gpu, scans_of_no_images) {
  QM_SKIP_WITHOUT_GPU();
  const auto inputs = core_inputs({0, 4, 1, 1}, 4, 4, 4);
  const Op op = [](const std::vector<Tensor>& in) { return cross_scan(in[0], in[1], core_weights(in)); };
  const auto cpu = run(inputs, op, DType::kFloat32, {}), cuda = run(inputs, op, DType::kFloat32, kGpu);
  for (std::size_t i = 0; i < cpu.size(); ++i) EXPECT_EQ(cpu[i].values, cuda[i].values) << cpu[i].name;
}

}  // namespace
}  // namespace qm
