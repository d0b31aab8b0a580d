// FiniteCheck: finds the first number of a step that is not finite, by computing the step again with a look at every
// tensor.
#pragma once

#include <string>
#include <vector>

#include "autograd/tape.h"
#include "layers/parameters.h"

namespace qm {

/// "" if all of the tensor's numbers are finite, else " is not finite: NaN in 3 of 96 numbers". Integers always are.
std::string not_finite_text(const Tensor& tensor);

/// Watches one tape at a time. It reads every tensor back from the device: for replays, not for training.
class FiniteCheck {
 public:
  explicit FiniteCheck(const ParameterStore& parameters) : parameters_(parameters) {}
  FiniteCheck(const FiniteCheck&) = delete;  // tapes hold its address
  FiniteCheck& operator=(const FiniteCheck&) = delete;

  /// Looks at the weights as they are now.
  void look_at_weights();
  /// Looks at what operations recorded on the tape put out and at the gradients of their inputs and weights. It must
  /// outlive the tape.
  void watch(Tape& tape);

  /// The first thing found, as "layer layers.0.blocks.1.op.in_proj: output 0 of linear is not finite: …"; "" if
  /// nothing. An operation on several layers' weights names the first and the last, one without weights the layer
  /// before.
  const std::string& finding() const { return finding_; }

 private:
  struct Operation {
    std::string layer;
    std::vector<const Parameter*> weights;
  };

  void after_forward(const char* name, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs);
  void after_backward(const char* name, const std::vector<Tensor>& grads);
  void look(const Tensor& tensor, const std::string& layer, const std::string& what);

  const ParameterStore& parameters_;
  std::vector<Operation> operations_;  ///< recorded, in order
  std::string finding_;
};

}  // namespace qm
