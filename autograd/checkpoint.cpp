#include "autograd/checkpoint.h"

#include "autograd/tape.h"

namespace qm {

std::vector<Tensor> checkpoint(const std::vector<Tensor>& inputs, const std::vector<Tensor>& parameters,
                               const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& body) {
  std::vector<Tensor> outputs;
  {
    const Tape::Pause pause;
    outputs = body(inputs);
  }
  // The parameters are uses of this operation too: each stays pending until all of backward is done with it.
  std::vector<Tensor> used = inputs;
  used.insert(used.end(), parameters.begin(), parameters.end());
  Tape::record("checkpoint", used, outputs, [inputs, body](Backward& grad) {
    std::vector<Tensor> again;  // the same memory, leaves of a tape of their own
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Tensor& input = inputs[i];
      again.push_back(input.defined() ? input.slice(0, input.shape()) : Tensor());
      if (grad.needs(static_cast<int>(i))) again.back().set_requires_grad();
    }
    Tape tape;
    std::vector<Tensor> outputs;
    {
      Tape::Recording recording(tape);
      outputs = body(again);
    }
    std::vector<Tensor> reached, grads;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const Tensor& grad_output = grad.grad_output(static_cast<int>(i));
      if (!grad_output.defined()) continue;
      reached.push_back(outputs[i]);
      grads.push_back(grad_output);
    }
    tape.backward(reached, grads);
    for (std::size_t i = 0; i < again.size(); ++i) {
      if (grad.needs(static_cast<int>(i)) && again[i].grad().defined()) grad.give(static_cast<int>(i), again[i].grad());
    }
  });
  return outputs;
}

}  // namespace qm
