#include "autograd/tape.h"

#include <gtest/gtest.h>

#include "kernels/base/allocator.h"
#include "tests/support/tensors.h"

// The tape alone, under three ops small enough to see through.
namespace qm {
namespace {

/// y = a · b, element by element. Saves both.
Tensor multiply(const Tensor& a, const Tensor& b) {
  const Tensor y = Tensor::empty(a.shape(), a.dtype());
  for (std::int64_t i = 0; i < a.count(); ++i) y.data<double>()[i] = a.data<double>()[i] * b.data<double>()[i];
  Tape::record("multiply", {a, b}, {y}, [=](Backward& grad) {
    const double* grad_y = grad.grad_output(0).data<double>();
    for (int input = 0; input < 2; ++input) {
      if (!grad.needs(input)) continue;
      const double* other = (input == 0 ? b : a).data<double>();
      double* grad_input = grad.assign(input).data<double>();
      for (std::int64_t i = 0; i < a.count(); ++i) grad_input[i] = grad_y[i] * other[i];
    }
  });
  return y;
}

/// y = Σ x · w for a parameter w, whose gradient is accumulated in place.
Tensor weigh(const Tensor& x, const Tensor& w) {
  const Tensor y = filled({1}, 0);
  for (std::int64_t i = 0; i < x.count(); ++i) *y.data<double>() += x.data<double>()[i] * w.data<double>()[i];
  Tape::record("weigh", {x, w}, {y}, [=](Backward& grad) {
    const double scale = *grad.grad_output(0).data<double>();
    double* grad_x = grad.needs(0) ? grad.assign(0).data<double>() : nullptr;
    double* grad_w = grad.needs(1) ? grad.accumulate(1).data<double>() : nullptr;
    for (std::int64_t i = 0; i < x.count(); ++i) {
      if (grad_x) grad_x[i] = scale * w.data<double>()[i];
      if (grad_w) grad_w[i] += scale * x.data<double>()[i];
    }
  });
  return y;
}

/// (x, −x); notes in *seen which of the two gradients came.
std::vector<Tensor> both_signs(const Tensor& x, std::vector<bool>* seen) {
  const std::vector<Tensor> outputs{x.clone(), x.clone()};
  for (std::int64_t i = 0; i < x.count(); ++i) outputs[1].data<double>()[i] *= -1;
  Tape::record("both_signs", {x}, outputs, [=, shape = x.shape()](Backward& grad) {
    *seen = {grad.grad_output(0).defined(), grad.grad_output(1).defined()};
    const Tensor grad_x = grad.assign(0);
    grad_x.zero();
    for (int output = 0; output < 2; ++output) {
      if (!grad.grad_output(output).defined()) continue;
      for (std::int64_t i = 0; i < count_of(shape); ++i) {
        grad_x.data<double>()[i] += (output ? -1 : 1) * grad.grad_output(output).data<double>()[i];
      }
    }
  });
  return outputs;
}

Tensor leaf(const std::vector<double>& values) {
  Tensor x = doubles({static_cast<std::int64_t>(values.size())}, values);
  return x.set_requires_grad();
}

/// Records `function` and goes back from its result.
template <class Function>
void differentiate(Function function) {
  Tape tape;
  Tensor loss;
  {
    const Tape::Recording recording(tape);
    loss = function();
  }
  tape.backward(loss);
}

// x · (x · w) summed: the gradient of x has two parts, x w and w x, that of w is x².
TEST(autograd, tape_sums_the_uses_of_a_leaf) {
  const Tensor x = leaf({2, 3}), w = leaf({5, 7});
  differentiate([&] { return weigh(x, multiply(x, w)); });
  EXPECT_EQ(values_of(x.grad()), (std::vector<double>{20, 42}));
  EXPECT_EQ(values_of(w.grad()), (std::vector<double>{4, 9}));
}

TEST(autograd, tape_one_tensor_as_both_inputs) {
  const Tensor x = leaf({3});
  differentiate([&] { return multiply(x, x); });
  EXPECT_EQ(values_of(x.grad()), (std::vector<double>{6}));
}

TEST(autograd, tape_gradients_accumulate_over_steps) {
  const Tensor x = leaf({2}), w = leaf({3});
  for (int step = 1; step <= 3; ++step) {
    differentiate([&] { return weigh(x, w); });
    EXPECT_EQ(values_of(x.grad())[0], 3 * step);
    EXPECT_EQ(values_of(w.grad())[0], 2 * step);
  }
}

// Gradients go into the slices of one flat buffer and stay there, assigned and accumulated ones alike.
TEST(autograd, tape_adds_into_a_preset_slice) {
  const Tensor flat = doubles({5}, {100, 200, 300, 400, 500});
  const Tensor x = leaf({2, 3}), w = leaf({5, 7});
  x.set_grad(flat.slice(1, {2}));
  w.set_grad(flat.slice(3, {2}));
  differentiate([&] { return weigh(x, w); });
  EXPECT_EQ(values_of(flat), (std::vector<double>{100, 205, 307, 402, 503}));
  EXPECT_EQ(x.grad().raw(), flat.slice(1, {2}).raw());
  EXPECT_EQ(w.grad().raw(), flat.slice(3, {2}).raw());
}

TEST(autograd, tape_leaves_the_callers_gradients_alone) {
  const Tensor x = leaf({2}), seed_y = doubles({1}, {10}), seed_z = doubles({1}, {1});
  Tape tape;
  Tensor y, z;
  {
    const Tape::Recording recording(tape);
    y = multiply(x, x);
    z = multiply(y, y);
  }
  tape.backward({y, z}, {seed_y, seed_z});
  EXPECT_EQ(values_of(x.grad())[0], 10 * 2 * 2 + 4 * 8);  // 10 · 2x + 4x³
  EXPECT_EQ(values_of(seed_y)[0], 10);
  EXPECT_EQ(values_of(seed_z)[0], 1);
}

TEST(autograd, tape_reshape_keeps_the_identity) {
  Tensor x = doubles({2, 2}, {1, 2, 3, 4});
  x.set_requires_grad();
  const Tensor w = leaf({1, 10, 100, 1000});
  differentiate([&] { return weigh(multiply(x.reshape({4}), x.reshape({4})).reshape({1, 4}), w.reshape({1, 4})); });
  EXPECT_EQ(x.grad().shape(), (Shape{2, 2}));
  EXPECT_EQ(values_of(x.grad()), (std::vector<double>{2, 40, 600, 8000}));
  EXPECT_EQ(values_of(w.grad()), (std::vector<double>{1, 4, 9, 16}));
}

TEST(autograd, tape_output_that_nothing_depends_on) {
  const Tensor x = leaf({2, 3}), w = doubles({2}, {5, 7});
  std::vector<bool> seen;
  differentiate([&] { return weigh(both_signs(x, &seen)[1], w); });
  EXPECT_EQ(seen, (std::vector<bool>{false, true}));
  EXPECT_EQ(values_of(x.grad()), (std::vector<double>{-5, -7}));
}

TEST(autograd, tape_skips_what_does_not_lead_to_the_loss) {
  const Tensor x = leaf({2}), aside = leaf({3});
  std::vector<bool> seen;
  int hooks = 0;
  aside.set_grad_hook([&] { ++hooks; });
  differentiate([&] {
    both_signs(aside, &seen);
    return multiply(x, x);
  });
  EXPECT_TRUE(seen.empty()) << "ran a backward without a gradient";
  EXPECT_FALSE(aside.grad().defined());
  EXPECT_EQ(hooks, 1) << "whoever waits for all gradients waits for this one too";
}

TEST(autograd, tape_needs_no_gradient_of_constants) {
  const Tensor x = leaf({2}), constant = doubles({1}, {3});
  differentiate([&] { return multiply(x, constant); });
  EXPECT_FALSE(constant.grad().defined());
  EXPECT_FALSE(Tape::wants({constant}));
}

TEST(autograd, tape_records_only_while_recording) {
  const Tensor x = leaf({2});
  EXPECT_FALSE(Tape::wants({x}));
  EXPECT_FALSE(multiply(x, x).requires_grad());
  Tape outer, inner;
  {
    const Tape::Recording recording(outer);
    EXPECT_TRUE(Tape::wants({x}));
    Tensor y;
    {
      const Tape::Recording nested(inner);
      y = multiply(x, x);
    }
    EXPECT_TRUE(Tape::wants({x})) << "the outer recording goes on";
    inner.backward(y);
    EXPECT_EQ(values_of(x.grad())[0], 4);
  }
  EXPECT_FALSE(Tape::wants({x}));
}

// The hook fires once a backward, after the last contribution (the first use), when the gradient is complete.
TEST(autograd, tape_hook_fires_once_with_the_whole_gradient) {
  const Tensor x = leaf({2}), w = leaf({5});
  std::vector<std::string> fired;
  x.set_grad_hook([&] { fired.push_back(concat("x ", values_of(x.grad())[0])); });
  w.set_grad_hook([&] { fired.push_back(concat("w ", values_of(w.grad())[0])); });
  // x is used three times, w last: 2 x w + x², and w's x² comes first.
  const auto step = [&] { return weigh(multiply(x, x), w); };
  differentiate(step);
  EXPECT_EQ(fired, (std::vector<std::string>{"w 4", "x 20"}));
  differentiate(step);
  EXPECT_EQ(fired, (std::vector<std::string>{"w 4", "x 20", "w 8", "x 40"}));
}

TEST(autograd, tape_given_up_leaves_no_pending_uses) {
  const Tensor x = leaf({2});
  int hooks = 0;
  x.set_grad_hook([&] { ++hooks; });
  {
    Tape abandoned;
    const Tape::Recording recording(abandoned);
    multiply(x, x);
  }
  EXPECT_EQ(hooks, 0);
  differentiate([&] { return multiply(x, x); });
  EXPECT_EQ(hooks, 1);
}

// A backward that throws, as a replay with checks does, must not leave leaves waiting for its uses either.
TEST(autograd, tape_that_threw_leaves_no_pending_uses) {
  const Tensor x = leaf({2});
  int hooks = 0;
  x.set_grad_hook([&] { ++hooks; });
  const auto failing = [&] {
    const Tensor y = multiply(x, x);
    Tape::record("failing", {x, y}, {y}, [](Backward&) { throw Error("no"); });
    return y;
  };
  EXPECT_THROW(differentiate(failing), Error);
  hooks = 0;
  differentiate([&] { return multiply(x, x); });
  EXPECT_EQ(hooks, 1);
}

// Ten squares of a large tensor, whose intermediate results only the tape holds. Backward frees each as soon as it has
// been used: memory shrinks from op to op, and never exceeds the start by more than the gradients that flow.
TEST(autograd, tape_releases_saved_tensors_as_backward_proceeds) {
  constexpr std::int64_t kCount = 1 << 16;
  constexpr std::size_t kBytes = kCount * sizeof(double);
  Allocator& allocator = allocator_for(Device{});
  Tensor x = filled({kCount}, 1);
  const Tensor w = filled({kCount}, 1);
  x.set_requires_grad();

  const std::size_t before = allocator.stats().allocated;
  Tape tape;
  Tensor loss;
  {
    const Tape::Recording recording(tape);
    Tensor y = x;
    for (int i = 0; i < 10; ++i) y = multiply(y, y);
    loss = weigh(y, w);
  }
  const std::size_t recorded = allocator.stats().allocated;
  EXPECT_GE(recorded - before, 10 * kBytes);

  std::vector<std::size_t> held;
  tape.set_inspector([&](const char*, const std::vector<Tensor>&) { held.push_back(allocator.stats().allocated); });
  allocator.reset_peak();
  tape.backward(loss);
  ASSERT_EQ(held.size(), 11u);
  for (std::size_t i = 3; i < held.size(); ++i) EXPECT_EQ(held[i - 1] - held[i], kBytes) << "after op " << i;
  EXPECT_LE(allocator.stats().peak, recorded + 4 * kBytes);
  EXPECT_LE(allocator.stats().allocated, before + kBytes + 1024);  // x's gradient and the loss
}

TEST(autograd, tape_leaves_no_gradient_on_intermediate_results) {
  const Tensor x = leaf({2}), w = doubles({1}, {5});
  Tensor intermediate, loss;
  Tape tape;
  {
    const Tape::Recording recording(tape);
    intermediate = multiply(x, x);
    loss = weigh(intermediate, w);
  }
  tape.backward(loss);
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(intermediate.grad().defined());
  EXPECT_FALSE(loss.grad().defined());
}

TEST(autograd, tape_recorder_sees_what_is_recorded) {
  const Tensor x = leaf({2}), constant = doubles({1}, {3}), w = doubles({1}, {5});
  Tape tape;
  std::vector<std::string> seen;
  tape.set_recorder([&](const char* name, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs) {
    seen.push_back(concat(name, " ", values_of(inputs[0])[0], " to ", values_of(outputs[0])[0]));
  });
  {
    const Tape::Recording recording(tape);
    multiply(constant, constant);  // needs no gradient
    weigh(multiply(x, constant), w);
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"multiply 2 to 6", "weigh 6 to 30"}));
}

TEST(autograd, tape_inspector_sees_ops_and_gradients_in_order) {
  const Tensor x = leaf({2}), other = leaf({3}), w = doubles({1}, {5});
  Tape tape;
  Tensor loss;
  {
    const Tape::Recording recording(tape);
    loss = weigh(multiply(x, other), w);
  }
  std::vector<std::string> seen;
  tape.set_inspector([&](const char* name, const std::vector<Tensor>& grads) {
    seen.push_back(concat(name, " ", values_of(grads[0])[0], grads[1].defined() ? " and more" : ""));
  });
  tape.backward(loss);
  EXPECT_EQ(seen, (std::vector<std::string>{"weigh 5", "multiply 15 and more"}));
}

TEST(autograd, tape_errors) {
  Tape tape;
  const Tensor x = leaf({2, 3});
  const auto message = [&](const auto& action) -> std::string {
    try {
      action();
    } catch (const ShapeError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message([&] { tape.backward(x); }), "backward: expected a loss of one element, got (2)");
  EXPECT_EQ(message([&] { tape.backward(doubles({1}, {1})); }), "backward: output 0 was not recorded on a tape");
  EXPECT_EQ(message([&] { tape.backward(leaf({1})); }), "backward: output 0 was not recorded on a tape");
  Tensor y;
  {
    const Tape::Recording recording(tape);
    y = multiply(x, x);
  }
  EXPECT_EQ(message([&] { tape.backward({y}, {filled({3}, 1)}); }), "reshape: (3) to (2)");
  EXPECT_EQ(message([&] { tape.backward(std::vector{y}, {}); }), "backward: 1 outputs with 0 gradients");
}

}  // namespace
}  // namespace qm
