#include "layers/ss2d.h"

#include <gtest/gtest.h>

#include "autograd/ops/cross_scan.h"
#include "autograd/ops/depthwise_conv_silu.h"
#include "autograd/ops/layer_norm.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/quad_scan.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

constexpr std::int64_t kChannels = 8;

/// An SS2D alone, and the tensors of its parameters by name.
struct TestSs2d {
  ParameterStore store;
  Ss2d module;

  explicit TestSs2d(const BlockPlace& place) : module(Scope(store), kChannels, place) {
    store.allocate(DType::kFloat64, Device{}, 1);
    for (const auto& parameter : store.list()) {
      if (parameter.name.starts_with("out_norm")) parameter.tensor.copy_from(random_tensor(parameter.shape, 2));
    }
  }

  const Tensor& parameter(const char* name) const { return store.find(name)->tensor; }
  CoreScanWeights weights() const {
    return {parameter("dt_projs_weight"), parameter("dt_projs_bias"), parameter("A_logs"), parameter("Ds")};
  }
  Tensor project(const Tensor& map) const {
    const Tensor& weight = parameter("x_proj_weight");
    return linear(map, weight.reshape({weight.dim(0) * weight.dim(1), weight.dim(2)}), Tensor());
  }
  Tensor finish(const Tensor& core) const {
    return linear(layer_norm(core, parameter("out_norm.weight"), parameter("out_norm.bias")),
                  parameter("out_proj.weight"), Tensor());
  }
};

void expect_equal(const Tensor& actual, const Tensor& expected) {
  ASSERT_EQ(actual.shape(), expected.shape());
  EXPECT_EQ(values_of(actual), values_of(expected));
}

struct RollCase {
  std::int64_t block, block_in_stage, height, width, roll_h, roll_w;
};

// MODEL.md, quadtree scan, step 4: odd blocks of a stage roll by s = H // 8 of the padded map, in both directions; the
// signs are (+,+), (−,−), (+,−), (−,+) for block // 2 mod 4, counted over the whole network.
TEST(layers, ss2d_rolls_every_second_block_by_its_place_in_the_network) {
  for (const RollCase& c : {RollCase{0, 0, 16, 8, 0, 0}, RollCase{1, 1, 16, 8, 2, 2}, RollCase{3, 1, 16, 8, -2, -2},
                            RollCase{5, 1, 16, 8, 2, -2}, RollCase{7, 1, 16, 8, -2, 2}, RollCase{9, 3, 16, 8, 2, 2},
                            RollCase{2, 1, 16, 8, -2, -2},   // the second stage may begin at an odd block
                            RollCase{3, 2, 16, 8, 0, 0},     // even in its stage
                            RollCase{1, 1, 15, 21, 2, 2},    // 15 pads to 16, and it is that height which counts
                            RollCase{1, 1, 8, 16, 1, 1},     // H, not W
                            RollCase{1, 1, 4, 16, 0, 0}}) {  // 4 // 8 = 0
    SCOPED_TRACE(concat("block ", c.block, ", ", c.block_in_stage, " in its stage, ", c.height, "x", c.width));
    for (const FineOrder order : {FineOrder::kQuadtree, FineOrder::kWindowRaster}) {
      const TestSs2d ss2d({c.block, c.block_in_stage, true, 1, order});
      const Tensor x = random_tensor({2, c.height, c.width, kChannels}, 3);
      QuadProbe probe;
      probe.forced = {integers({1, 2})};
      const Tensor actual = ss2d.module(x, {.record = nullptr, .probe = &probe});

      const Tensor map =
          depthwise_conv_silu(linear(x, ss2d.parameter("in_proj.weight"), Tensor()), ss2d.parameter("conv2d.weight"),
                              (c.height + 3) / 4 * 4, (c.width + 3) / 4 * 4);
      const QuadrantChoice choice{doubles({2, 4}, {0, 1, 0, 0, 0, 0, 1, 0}), integers({1, 2})};
      expect_equal(actual, ss2d.finish(quad_scan(map, ss2d.project(map), choice, ss2d.weights(),
                                                 {c.roll_h, c.roll_w, order, c.height, c.width})));
    }
  }
}

TEST(layers, ss2d_crosses_without_padding) {
  const TestSs2d ss2d({.block = 5, .block_in_stage = 1, .quad = false, .state_size = 2});
  const Tensor x = random_tensor({2, 5, 7, kChannels}, 3);
  const Tensor map =
      depthwise_conv_silu(linear(x, ss2d.parameter("in_proj.weight"), Tensor()), ss2d.parameter("conv2d.weight"), 5, 7);
  expect_equal(ss2d.module(x, {}), ss2d.finish(cross_scan(map, ss2d.project(map), ss2d.weights())));
  EXPECT_EQ(ss2d.store.find("score_predictor.in_conv.0.weight"), nullptr);
}

}  // namespace
}  // namespace qm
