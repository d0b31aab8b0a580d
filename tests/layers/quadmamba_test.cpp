#include "layers/quadmamba.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "autograd/ops/soft_cross_entropy.h"
#include "autograd/optim/adamw.h"
#include "autograd/tape.h"
#include "kernels/noise.h"
#include "tests/support/models.h"

namespace qm {
namespace {

QuadMambaConfig published(std::int64_t dim, std::int64_t third_stage) {
  return {.dim = dim, .depths = {2, 2, third_stage, 2}, .classes = 1000};
}

std::int64_t parameters_of(const QuadMambaConfig& config) {
  ParameterStore store;
  const QuadMamba network(store, config);
  return store.count();
}

void expect_all_finite(const Tensor& tensor) {
  for (const double value : values_of(tensor)) ASSERT_TRUE(std::isfinite(value));
}

// ---- MODEL.md's table of sizes --------------------------------------------------------------------------------------

TEST(layers, quadmamba_parameter_counts_of_the_published_sizes) {
  EXPECT_EQ(parameters_of(published(48, 2)), 6598944);
  EXPECT_EQ(parameters_of(published(64, 2)), 11514416);
  EXPECT_EQ(parameters_of(published(96, 5)), 31252176);
  EXPECT_EQ(parameters_of(published(96, 15)), 50694096);
}

TEST(layers, quadmamba_multiply_adds_of_the_published_sizes) {
  const auto total = [](std::int64_t dim, std::int64_t third) {
    return count_multiply_adds(published(dim, third), 224, 224).total();
  };
  // To the digits of the table.
  EXPECT_NEAR(total(48, 2), 1.107e9, 0.0005e9);
  EXPECT_NEAR(total(64, 2), 1.944e9, 0.0005e9);
  EXPECT_NEAR(total(96, 5), 5.476e9, 0.0005e9);
  EXPECT_NEAR(total(96, 15), 9.319e9, 0.0005e9);
}

TEST(layers, quadmamba_multiply_adds_of_small_by_part) {
  const MultiplyAdds small = count_multiply_adds(published(96, 5), 224, 224);
  EXPECT_NEAR(small.convolutions, 0.5609e9, 0.00005e9);
  EXPECT_NEAR(small.linear, 4.5681e9, 0.00005e9);
  EXPECT_NEAR(small.projections, 0.2746e9, 0.00005e9);
  EXPECT_NEAR(small.scans, 0.0723e9, 0.00005e9);
  EXPECT_EQ(small.total(), small.convolutions + small.linear + small.projections + small.scans);
}

TEST(layers, quadmamba_parameters_by_part) {
  ParameterStore store;
  const QuadMamba network(store, published(48, 2));
  std::vector<std::string> names;
  std::int64_t sum = 0;
  for (const auto& [name, count] : count_parameters(store)) {
    names.push_back(name);
    sum += count;
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"patch_embed", "layers.0", "layers.1", "layers.2", "layers.3", "classifier"}));
  EXPECT_EQ(sum, store.count());
}

// One block of each kind, at C = 8 and 32 with R = 1 and 2, N = 2.
TEST(layers, quadmamba_published_names_and_shapes) {
  ParameterStore store;
  QuadMambaConfig config = tiny_config();
  config.state_size = 2;
  const QuadMamba network(store, config);
  std::map<std::string, Shape> shapes;
  for (const auto& parameter : store.list()) shapes[parameter.name] = parameter.shape;

  const auto below = [&](const std::string& prefix) {
    std::map<std::string, Shape> part;
    for (const auto& [name, shape] : shapes) {
      if (name.starts_with(prefix)) part[name.substr(prefix.size())] = shape;
    }
    return part;
  };
  const std::map<std::string, Shape> quad_block{{"norm.weight", {8}},
                                                {"norm.bias", {8}},
                                                {"norm2.weight", {8}},
                                                {"norm2.bias", {8}},
                                                {"mlp.fc1.weight", {32, 8}},
                                                {"mlp.fc1.bias", {32}},
                                                {"mlp.fc2.weight", {8, 32}},
                                                {"mlp.fc2.bias", {8}},
                                                {"op.in_proj.weight", {16, 8}},
                                                {"op.conv2d.weight", {16, 1, 3, 3}},
                                                {"op.x_proj_weight", {2, 5, 16}},
                                                {"op.dt_projs_weight", {2, 16, 1}},
                                                {"op.dt_projs_bias", {2, 16}},
                                                {"op.A_logs", {32, 2}},
                                                {"op.Ds", {32}},
                                                {"op.out_norm.weight", {16}},
                                                {"op.out_norm.bias", {16}},
                                                {"op.out_proj.weight", {8, 16}},
                                                {"op.score_predictor.in_conv.0.weight", {16}},
                                                {"op.score_predictor.in_conv.0.bias", {16}},
                                                {"op.score_predictor.in_conv.1.weight", {16, 16}},
                                                {"op.score_predictor.in_conv.1.bias", {16}},
                                                {"op.score_predictor.out_conv.0.weight", {8, 16}},
                                                {"op.score_predictor.out_conv.0.bias", {8}},
                                                {"op.score_predictor.out_conv.2.weight", {4, 8}},
                                                {"op.score_predictor.out_conv.2.bias", {4}},
                                                {"op.score_predictor.out_conv.4.weight", {2, 4}},
                                                {"op.score_predictor.out_conv.4.bias", {2}}};
  EXPECT_EQ(below("layers.0.blocks.0."), quad_block);
  const std::map<std::string, Shape> cross_block{{"norm.weight", {32}},
                                                 {"norm.bias", {32}},
                                                 {"norm2.weight", {32}},
                                                 {"norm2.bias", {32}},
                                                 {"mlp.fc1.weight", {128, 32}},
                                                 {"mlp.fc1.bias", {128}},
                                                 {"mlp.fc2.weight", {32, 128}},
                                                 {"mlp.fc2.bias", {32}},
                                                 {"op.in_proj.weight", {64, 32}},
                                                 {"op.conv2d.weight", {64, 1, 3, 3}},
                                                 {"op.x_proj_weight", {4, 6, 64}},
                                                 {"op.dt_projs_weight", {4, 64, 2}},
                                                 {"op.dt_projs_bias", {4, 64}},
                                                 {"op.A_logs", {256, 2}},
                                                 {"op.Ds", {256}},
                                                 {"op.out_norm.weight", {64}},
                                                 {"op.out_norm.bias", {64}},
                                                 {"op.out_proj.weight", {32, 64}}};
  EXPECT_EQ(below("layers.2.blocks.0."), cross_block);
  EXPECT_EQ(below("patch_embed."), (std::map<std::string, Shape>{{"0.weight", {4, 3, 3, 3}},
                                                                 {"0.bias", {4}},
                                                                 {"2.weight", {4}},
                                                                 {"2.bias", {4}},
                                                                 {"5.weight", {8, 4, 3, 3}},
                                                                 {"5.bias", {8}},
                                                                 {"7.weight", {8}},
                                                                 {"7.bias", {8}}}));
  EXPECT_EQ(below("layers.1.downsample."),
            (std::map<std::string, Shape>{
                {"1.weight", {32, 16, 3, 3}}, {"1.bias", {32}}, {"3.weight", {32}}, {"3.bias", {32}}}));
  EXPECT_TRUE(below("layers.3.downsample.").empty());
  EXPECT_EQ(below("classifier."),
            (std::map<std::string, Shape>{
                {"norm.weight", {64}}, {"norm.bias", {64}}, {"head.weight", {3, 64}}, {"head.bias", {3}}}));
}

// ---- forward --------------------------------------------------------------------------------------------------------

TEST(layers, quadmamba_takes_awkward_sizes) {
  for (const FineOrder order : {FineOrder::kQuadtree, FineOrder::kWindowRaster}) {
    QuadMambaConfig config = tiny_config();
    config.fine_order = order;
    const TestModel model(config, 1);
    for (const Shape& size : {Shape{32, 32}, Shape{33, 47}, Shape{40, 64}, Shape{100, 32}, Shape{63, 65}}) {
      const Tensor logits = model.network(random_tensor({2, size[0], size[1], 3}, 2), {});
      EXPECT_EQ(logits.shape(), (Shape{2, 3})) << size[0] << "x" << size[1];
      expect_all_finite(logits);
    }
  }
}

TEST(layers, quadmamba_refuses_other_images) {
  const TestModel model(tiny_config(), 1);
  for (const Shape& shape : {Shape{1, 31, 32, 3}, Shape{1, 32, 31, 3}, Shape{1, 32, 32, 1}, Shape{32, 32, 3}}) {
    try {
      model.network(filled(shape, 0), {});
      FAIL() << "took " << to_string(shape);
    } catch (const ShapeError& error) {
      EXPECT_NE(std::string(error.what()).find("got " + to_string(shape)), std::string::npos) << error.what();
    }
  }
}

TEST(layers, quadmamba_refuses_impossible_configurations) {
  const auto refuses = [](const std::function<void(QuadMambaConfig&)>& change) {
    QuadMambaConfig config = tiny_config();
    change(config);
    ParameterStore store;
    EXPECT_THROW(QuadMamba(store, config), ConfigError);
  };
  refuses([](auto& config) { config.dim = 7; });
  refuses([](auto& config) { config.dim = 2; });
  refuses([](auto& config) { config.depths[2] = 0; });
  refuses([](auto& config) { config.classes = 0; });
  refuses([](auto& config) { config.state_size = 0; });
  refuses([](auto& config) { config.drop_path = 1; });
  refuses([](auto& config) { config.drop_path = -0.1; });
}

// Nothing in evaluation looks across a batch.
TEST(layers, quadmamba_images_of_a_batch_are_independent) {
  const TestModel model(tiny_config(), 1);
  model.perturb(0.1);
  const Tensor images = random_tensor({3, 36, 44, 3}, 2);
  const auto together = values_of(model.network(images, {}));
  for (std::int64_t b = 0; b < 3; ++b) {
    const auto alone = values_of(model.network(images.slice(b * 36 * 44 * 3, {1, 36, 44, 3}), {}));
    for (std::size_t c = 0; c < 3; ++c) {
      EXPECT_NEAR(alone[c], together[static_cast<std::size_t>(b) * 3 + c], 1e-12);
    }
  }
}

// The probe sees each quadtree block once and steers it; without noise the arg-max of the scores is taken.
TEST(layers, quadmamba_probe) {
  const TestModel model(tiny_config(), 1);
  model.perturb(0.1);
  const Tensor images = random_tensor({4, 64, 64, 3}, 2);
  QuadProbe seen;
  const auto plain = values_of(model.network(images, {.record = nullptr, .probe = &seen}));
  ASSERT_EQ(seen.selected.size(), static_cast<std::size_t>(kTinyQuadBlocks));
  ASSERT_EQ(seen.score_logits.size(), seen.selected.size());
  for (std::size_t block = 0; block < seen.selected.size(); ++block) {
    const auto scores = values_of(seen.score_logits[block]);
    for (std::size_t b = 0; b < 4; ++b) {
      const auto first = scores.begin() + static_cast<std::ptrdiff_t>(4 * b);
      EXPECT_EQ(seen.selected[block].to_vector<std::int32_t>()[b], std::max_element(first, first + 4) - first);
    }
  }
  QuadProbe same, other;
  same.forced = seen.selected;
  EXPECT_EQ(values_of(model.network(images, {.record = nullptr, .probe = &same})), plain);
  for (const auto& selected : seen.selected) {
    auto next = selected.to_vector<std::int32_t>();
    for (auto& quadrant : next) quadrant = (quadrant + 1) % 4;
    other.forced.push_back(integers(next));
  }
  EXPECT_NE(values_of(model.network(images, {.record = nullptr, .probe = &other})), plain);
}

// ---- drop path ------------------------------------------------------------------------------------------------------

/// The branches of the tiny network: their last weights, without which they are nothing.
void silence_branches_but(const TestModel& model, std::int64_t block, int branch) {
  const std::vector<std::string> blocks{"layers.0.blocks.0.", "layers.1.blocks.0.", "layers.1.blocks.1.",
                                        "layers.2.blocks.0.", "layers.3.blocks.0."};
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const bool kept = static_cast<std::int64_t>(i) == block;
    if (!kept || branch != 0) model.store.find(blocks[i] + "op.out_proj.weight")->tensor.zero();
    if (!kept || branch != 1) {
      model.store.find(blocks[i] + "mlp.fc2.weight")->tensor.zero();
      model.store.find(blocks[i] + "mlp.fc2.bias")->tensor.zero();
    }
  }
}

// Where all branches but one are silent, a sample's logits are those of the network without it exactly where that
// branch is dropped: block i of n by (site 2i + branch, rate · i / (n − 1)).
TEST(layers, quadmamba_drop_path_rises_over_the_blocks) {
  constexpr std::int64_t kBatch = 40, kBlocks = 5;
  constexpr double kRate = 0.9;
  QuadMambaConfig config = tiny_config();
  config.drop_path = kRate;
  const StepRecord record{.seed = 3, .step = 5, .first_position = 16};
  const Tensor images = random_tensor({kBatch, 32, 32, 3}, 2);
  const auto logits_with = [&](std::int64_t block, int branch) {
    const TestModel model(config, 1);
    model.perturb(0.1);
    silence_branches_but(model, block, branch);
    return values_of(model.network(images, {.record = &record, .probe = nullptr}));
  };
  const auto silent = logits_with(-1, 0);
  for (std::int64_t block = 0; block < kBlocks; ++block) {
    for (int branch = 0; branch < 2; ++branch) {
      const auto logits = logits_with(block, branch);
      for (std::uint32_t row = 0; row < kBatch; ++row) {
        const auto rate = static_cast<float>(kRate * static_cast<double>(block) / (kBlocks - 1));
        const auto site = static_cast<std::uint32_t>(2 * block + branch);
        EXPECT_EQ(logits[row * 3] == silent[row * 3], drop_path_scale(&record, site, rate, row) == 0)
            << "block " << block << ", branch " << branch << ", row " << row;
      }
    }
  }
}

TEST(layers, quadmamba_evaluation_drops_nothing) {
  QuadMambaConfig config = tiny_config();
  const TestModel plain(config, 1);
  config.drop_path = 0.9;
  const TestModel dropping(config, 1);
  const Tensor images = random_tensor({2, 32, 32, 3}, 2);
  EXPECT_EQ(values_of(plain.network(images, {})), values_of(dropping.network(images, {})));
}

// ---- training -------------------------------------------------------------------------------------------------------

/// Three optimizer steps with drop path and drawn quadrants; the parameters after them.
std::vector<double> train(const TestModel& model) {
  AdamW optimizer({.clip_norm = 5, .ema = true}, model.store.values(), model.store.gradients(),
                  {{0, model.store.values().count(), true}});
  for (std::uint32_t step = 0; step < 3; ++step) {
    StepRecord record{.seed = 8, .step = step, .learning_rate = 1e-2, .ema_decay = 0.9};
    optimizer.correct_bias(record);
    model.store.gradients().zero();
    Tape tape;
    Tensor loss;
    {
      const Tape::Recording recording(tape);
      const Tensor logits = model.network(random_tensor({4, 33, 40, 3}, step), {.record = &record, .probe = nullptr});
      loss = soft_cross_entropy(logits, random_tensor({4, 3}, 100 + step, 0, 1), 0.25);
    }
    tape.backward(loss);
    optimizer.step(&record, loss);
  }
  return values_of(model.store.values());
}

TEST(layers, quadmamba_training_gives_the_same_bits_twice) {
  QuadMambaConfig config = tiny_config();
  config.drop_path = 0.3;
  const TestModel first(config, 1), second(config, 1);
  const auto before = values_of(first.store.values());
  const auto after = train(first);
  EXPECT_NE(after, before);
  EXPECT_EQ(after, train(second));
}

TEST(layers, quadmamba_restored_parameters_give_the_same_bits) {
  const TestModel trained(tiny_config(), 1), fresh(tiny_config(), 2);
  train(trained);
  const Tensor images = random_tensor({2, 32, 48, 3}, 2);
  const auto expected = values_of(trained.network(images, {}));
  EXPECT_NE(values_of(fresh.network(images, {})), expected);
  fresh.store.values().copy_from(trained.store.values());
  EXPECT_EQ(values_of(fresh.network(images, {})), expected);
}

}  // namespace
}  // namespace qm
