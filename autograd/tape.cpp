#include "autograd/tape.h"

#include "kernels/base/current_op.h"
#include "kernels/memory.h"

namespace qm {
namespace {

thread_local Tape* recording_tape = nullptr;

void add_to(const Tensor& total, const Tensor& part) {
  visit_activation(total.dtype(), "tape", [&]<class T>() {
    add_inplace<T>(total.stream(), part.data<T>(), total.data<T>(), total.count());
  });
}

}  // namespace

struct Backward::Node {
  struct Input {
    std::shared_ptr<Variable> variable;  // null where the input was undefined
    Shape shape;
    DType dtype = DType::kFloat32;
    Device device;
  };
  const char* name;
  std::vector<Input> inputs;
  std::vector<std::shared_ptr<Variable>> outputs;
  std::function<void(Backward&)> backward;
};

// ---- what a closure sees ---------------------------------------------------------------------------------------------

Backward::Backward(Node& node, std::vector<Tensor> grad_outputs)
    : node_(node), grad_outputs_(std::move(grad_outputs)), assigned_(node.inputs.size()), added_(node.inputs.size()) {}

bool Backward::needs(int index) const {
  const auto& variable = node_.inputs[index].variable;
  return variable && variable->requires_grad;
}

Tensor Backward::assign(int index) {
  const auto& input = node_.inputs[index];
  return assigned_[index] = Tensor::empty(input.shape, input.dtype, input.device);
}

Backward::Sum Backward::sum(int index) {
  const auto& input = node_.inputs[index];
  if (!needs(index) || !input.variable->grad.defined()) return {assign(index), false};
  added_[index] = true;
  assigned_[index] = input.variable->grad.reshape(input.shape);
  return {assigned_[index], true};
}

void Backward::give(int index, Tensor grad) {
  assigned_[index] = std::move(grad);
}

Tensor Backward::accumulate(int index) {
  const auto& input = node_.inputs[index];
  Tensor& grad = input.variable->grad;
  if (!grad.defined()) grad = Tensor::zeros(input.shape, input.dtype, input.device);
  return grad.reshape(input.shape);
}

// ---- recording -------------------------------------------------------------------------------------------------------

Tape::Tape() = default;

Tape::~Tape() {
  // A recording that was never replayed must not leave leaves waiting for uses that will not come.
  for (const auto& node : nodes_) {
    for (const auto& input : node->inputs) {
      if (input.variable && input.variable->requires_grad) --input.variable->pending_uses;
    }
  }
}

Tape::Recording::Recording(Tape& tape) : previous_(recording_tape) { recording_tape = &tape; }
Tape::Recording::~Recording() { recording_tape = previous_; }

Tape::Pause::Pause() : paused_(recording_tape) {
  recording_tape = nullptr;
}
Tape::Pause::~Pause() {
  recording_tape = paused_;
}

bool Tape::wants(const std::vector<Tensor>& inputs) {
  if (!recording_tape) return false;
  for (const auto& input : inputs) {
    if (input.requires_grad()) return true;
  }
  return false;
}

void Tape::record(const char* name, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
                  std::function<void(Backward&)> backward) {
  if (!wants(inputs)) return;
  auto node = std::make_unique<Backward::Node>();
  node->name = name;
  node->backward = std::move(backward);
  for (const auto& input : inputs) {
    node->inputs.push_back({input.variable(), input.shape(), input.dtype(), input.device()});
    if (input.requires_grad()) ++input.variable()->pending_uses;
  }
  for (const auto& output : outputs) {
    output.variable()->requires_grad = true;
    output.variable()->leaf = false;
    node->outputs.push_back(output.variable());
  }
  recording_tape->nodes_.push_back(std::move(node));
  if (recording_tape->recorder_) recording_tape->recorder_(name, inputs, outputs);
}

// ---- replay ----------------------------------------------------------------------------------------------------------

void Tape::backward(const Tensor& loss) {
  QM_CHECK(loss.count() == 1, ShapeError, "backward: expected a loss of one element, got ", to_string(loss.shape()));
  const Tensor one = Tensor::empty(loss.shape(), loss.dtype(), loss.device());
  fill(one.stream(), one.dtype(), 1, one.raw(), 1);  // on the device: a copy from the host could not be replayed
  backward(std::vector<Tensor>{loss}, {one});
}

void Tape::backward(const std::vector<Tensor>& outputs, const std::vector<Tensor>& grads) {
  QM_CHECK(outputs.size() == grads.size(), ShapeError, "backward: ", outputs.size(), " outputs with ", grads.size(),
           " gradients");
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    QM_CHECK(outputs[i].requires_grad() && !outputs[i].variable()->leaf, ShapeError,
             "backward: output ", i, " was not recorded on a tape");
    // A copy: other uses of the output add to it.
    outputs[i].variable()->grad = grads[i].reshape(outputs[i].shape()).clone();
  }
  while (!nodes_.empty()) {
    // The node stays on the tape until it is done: if its closure throws, ~Tape takes its uses back.
    const auto& node = nodes_.back();

    std::vector<Tensor> grad_outputs;
    bool reached = false;
    for (const auto& output : node->outputs) {
      grad_outputs.push_back(output->grad);
      reached |= output->grad.defined();
      output->grad = Tensor();
    }
    std::vector<Tensor> assigned(node->inputs.size());
    std::vector<bool> added(node->inputs.size());
    if (reached) {
      Backward context(*node, std::move(grad_outputs));
      const CurrentOp op(node->name, true);
      node->backward(context);
      assigned = std::move(context.assigned_);
      added = std::move(context.added_);
    }
    for (std::size_t i = 0; i < node->inputs.size(); ++i) {
      const auto variable = std::move(node->inputs[i].variable);
      if (!variable || !variable->requires_grad) continue;
      if (assigned[i].defined() && !added[i]) {
        // A leaf's gradient may be a slice of a flat buffer: add into it, never replace it.
        if (variable->grad.defined()) {
          add_to(variable->grad, assigned[i]);
        } else {
          variable->grad = assigned[i];
        }
      }
      if (--variable->pending_uses == 0 && variable->leaf && variable->hook) variable->hook();
    }
    if (inspector_) inspector_(node->name, assigned);
    nodes_.pop_back();
  }
}

void Tape::set_recorder(
    std::function<void(const char*, const std::vector<Tensor>&, const std::vector<Tensor>&)> recorder) {
  recorder_ = std::move(recorder);
}

void Tape::set_inspector(std::function<void(const char*, const std::vector<Tensor>&)> inspector) {
  inspector_ = std::move(inspector);
}

}  // namespace qm
