// Tape: a define-by-run record of differentiable operations, replayed backwards once.
//
//   Tape tape;
//   Tensor loss;
//   { Tape::Recording recording(tape); loss = model(x); }
//   tape.backward(loss);          // leaf.grad() += ∂loss/∂leaf
//
// An op in autograd/ops/ computes its outputs and calls Tape::record with a closure that holds what backward needs.
// Backward runs the closures in reverse order of recording and destroys each as soon as it has run, so saved tensors are
// released the moment they have been used. Gradients are summed in that fixed order: two runs give the same bits.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "autograd/tensor.h"

namespace qm {

/// What the tape knows a tensor by. Shared by all handles and reshapes of a tensor.
struct Variable {
  bool requires_grad = false;
  bool leaf = true;
  Tensor grad;                ///< flat or shaped, always of the tensor's count
  Tensor rounded;             ///< leaves only: their values in the activations' dtype, where that is another
  std::function<void()> hook;  ///< leaves only
  std::int64_t pending_uses = 0;
};

class Tape;

/// What a backward closure works with. Indices are those of the inputs and outputs given to Tape::record.
class Backward {
 public:
  /// ∂loss/∂output, or an undefined tensor where nothing depended on that output.
  const Tensor& grad_output(int index) const { return grad_outputs_[index]; }
  /// Whether anything asks for ∂loss/∂input.
  bool needs(int index) const;
  /// A buffer with undefined contents that the closure must fill with ∂loss/∂input; the tape adds it to other
  /// contributions. For activations.
  Tensor assign(int index);
  /// The same for a closure that can add as well as fill: where other uses of the input have left their contributions,
  /// the buffer that holds them.
  struct Sum {
    Tensor grad;
    bool adds;  ///< whether the closure must add to what `grad` holds, else fill it
  };
  Sum sum(int index);
  /// Hands over ∂loss/∂input that something else has computed, of the input's shape.
  void give(int index, Tensor grad);
  /// A buffer to which the closure must add ∂loss/∂input: a leaf's own gradient, else zeros. For parameters.
  Tensor accumulate(int index);

 private:
  friend class Tape;
  struct Node;
  Backward(Node& node, std::vector<Tensor> grad_outputs);
  Node& node_;
  std::vector<Tensor> grad_outputs_;
  std::vector<Tensor> assigned_;
  std::vector<bool> added_;  ///< whether assigned_ is the sum of all contributions already
};

class Tape {
 public:
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// While alive, operations of this thread are recorded on the tape.
  class Recording {
   public:
    explicit Recording(Tape& tape);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

   private:
    Tape* previous_;
  };

  /// While alive, nothing that this thread does is recorded.
  class Pause {
   public:
    Pause();
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Tape* paused_;
  };

  /// Whether an op on these inputs has to be recorded: a tape is recording and some defined input requires a gradient.
  static bool wants(const std::vector<Tensor>& inputs);

  /// Records an operation; `name` is a literal, kept for error messages. Undefined inputs are allowed and never need a
  /// gradient. Does nothing unless wants(inputs).
  static void record(const char* name, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
                     std::function<void(Backward&)> backward);

  /// Propagates ∂loss/∂loss = 1 (loss: one element) back through everything recorded and empties the tape.
  void backward(const Tensor& loss);
  /// The same from several outputs with given gradients.
  void backward(const std::vector<Tensor>& outputs, const std::vector<Tensor>& grads);

  /// Called after each operation recorded, with its name, inputs and outputs (for replay with checks).
  void set_recorder(std::function<void(const char* name, const std::vector<Tensor>& inputs,
                                       const std::vector<Tensor>& outputs)> recorder);
  /// Called after each node's backward with the op's name and the gradients it produced (for replay with checks).
  void set_inspector(std::function<void(const char* name, const std::vector<Tensor>& grads)> inspector);

 private:
  std::vector<std::unique_ptr<Backward::Node>> nodes_;
  std::function<void(const char*, const std::vector<Tensor>&, const std::vector<Tensor>&)> recorder_;
  std::function<void(const char*, const std::vector<Tensor>&)> inspector_;
};

}  // namespace qm
