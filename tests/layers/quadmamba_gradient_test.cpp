// The gradient of a whole network, against finite differences along random directions of every parameter.
//
// The straight-through estimator is not the derivative of the loss: the choice of a quadrant is locally constant, yet a
// gradient flows through it to the predictor and to all that lies before it. Noise of 1000 at one quadrant makes the
// soft choice one-hot to the last bit, whose soft-max has no slope: that path vanishes exactly, and what is left must
// be the derivative. The estimator itself is tested op by op (gumbel_softmax, quad_scan) and by the golden files.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/ops/soft_cross_entropy.h"
#include "autograd/tape.h"
#include "tests/support/models.h"
#include "tests/support/thread_count.h"

namespace qm {
namespace {

constexpr std::int64_t kBatch = 3;

double norm_of(const std::vector<double>& values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

/// A direction of length 1.
std::vector<double> random_direction(const Parameter& parameter, std::uint64_t seed) {
  auto direction = values_of(random_tensor(parameter.shape, seed + static_cast<std::uint64_t>(parameter.offset)));
  const double norm = norm_of(direction);
  for (auto& value : direction) value /= norm;
  return direction;
}

void move(const Parameter& parameter, const std::vector<double>& direction, double step) {
  for (std::size_t i = 0; i < direction.size(); ++i) parameter.tensor.data<double>()[i] += step * direction[i];
}

/// The loss of a fixed batch under a training record: drop path is drawn, and with `decided` the quadrants are too.
struct Problem {
  TestModel model;
  Tensor images, targets;
  StepRecord record{.seed = 6, .step = 2};
  bool decided;

  Problem(const QuadMambaConfig& config, std::int64_t height, std::int64_t width, bool with_decided)
      : model(config, 1),
        images(random_tensor({kBatch, height, width, 3}, 2)),
        targets(random_tensor({kBatch, config.classes}, 3, 0, 1)),
        decided(with_decided) {
    model.perturb(0.1);
  }

  Tensor loss() const {
    QuadProbe probe;
    for (std::int64_t block = 0; decided && block < kTinyQuadBlocks; ++block) {
      const Tensor noise = filled({kBatch, 4}, 0);
      for (std::int64_t b = 0; b < kBatch; ++b) noise.data<double>()[4 * b + (b + block) % 4] = 1000;
      probe.noise.push_back(noise);
    }
    return soft_cross_entropy(model.network(images, {.record = &record, .probe = &probe}), targets, 1.0 / kBatch);
  }

  void differentiate() const {
    Tape tape;
    Tensor result;
    {
      const Tape::Recording recording(tape);
      result = loss();
    }
    tape.backward(result);
  }
};

/// Central differences along unit directions: the step of 1e-5 leaves an error of some 1e-10 of the gradient's length,
/// and rounding in a loss of order 1 some 1e-16 / 1e-5.
void expect_derivatives(const Problem& problem) {
  constexpr double kStep = 1e-5;
  const ThreadCount one(1);  // for maps this small waking threads costs more than the work
  problem.differentiate();
  for (const auto& parameter : problem.model.store.list()) {
    const auto gradient = values_of(parameter.tensor.grad());
    for (const std::uint64_t seed : {10000u, 20000u}) {
      const auto direction = random_direction(parameter, seed);
      double expected = 0;
      for (std::size_t i = 0; i < direction.size(); ++i) expected += gradient[i] * direction[i];
      const Tensor saved = parameter.tensor.clone();
      move(parameter, direction, kStep);
      const double above = values_of(problem.loss())[0];
      move(parameter, direction, -2 * kStep);
      const double below = values_of(problem.loss())[0];
      parameter.tensor.copy_from(saved);
      EXPECT_NEAR((above - below) / (2 * kStep), expected, 1e-7 * norm_of(gradient) + 3e-10) << parameter.name;
    }
  }
}

bool is_predictor(const Parameter& parameter) {
  return parameter.name.find("score_predictor") != std::string::npos;
}

TEST(layers, quadmamba_gradients_match_finite_differences) {
  for (const FineOrder order : {FineOrder::kQuadtree, FineOrder::kWindowRaster}) {
    QuadMambaConfig config = tiny_config();
    config.fine_order = order;
    config.drop_path = 0.3;
    config.state_size = order == FineOrder::kQuadtree ? 1 : 2;
    expect_derivatives(Problem(config, 32, 32, true));
    expect_derivatives(Problem(config, 36, 44, true));  // padded maps in both quadtree stages
  }
}

TEST(layers, quadmamba_decided_quadrants_leave_predictors_without_gradient) {
  const Problem problem(tiny_config(), 64, 64, true);
  problem.differentiate();
  for (const auto& parameter : problem.model.store.list()) {
    const double norm = norm_of(values_of(parameter.tensor.grad()));
    EXPECT_EQ(norm == 0, is_predictor(parameter)) << parameter.name << " " << norm;
  }
}

// Open quadrants: every parameter, the predictors' too, receives a gradient. (Maps of 16×16 and 8×8: on a 4×4 map the
// two quadtree orders are one, and there is nothing to choose.)
TEST(layers, quadmamba_every_parameter_receives_a_gradient) {
  const Problem problem(tiny_config(), 64, 64, false);
  problem.differentiate();
  for (const auto& parameter : problem.model.store.list()) {
    EXPECT_GT(norm_of(values_of(parameter.tensor.grad())), 0) << parameter.name;
  }
}

}  // namespace
}  // namespace qm
