#include "autograd/ops/mlp.h"

#include "autograd/ops/check.h"
#include "autograd/ops/linear.h"
#include "autograd/tape.h"
#include "kernels/base/current_op.h"
#include "kernels/linear.h"
#include "kernels/linear_gelu.h"

namespace qm {
namespace {

/// What backward needs of a layer. The gradient of its bias is summed in its GELU's pass, where it has one.
struct SavedLayer {
  Tensor input;    ///< (…, in)
  Tensor rounded;  ///< its weight in the input's dtype
  Tensor bias;
  Tensor pre;  ///< (…, out), what its GELU adds the bias to; of the last layer undefined
};

SavedLayer to_save(const Tensor& input, const MlpLayer& layer) {
  expect_rank("mlp", "weight", layer.weight, 2);
  QM_CHECK(input.rank() >= 1 && input.dim(-1) == layer.weight.dim(1), ShapeError, "mlp: expected an input with ",
           layer.weight.dim(1), " channels, got ", to_string(input.shape()));
  expect_shape("mlp", "bias", layer.bias, {layer.weight.dim(0)});
  return {.input = input, .rounded = layer.weight.in(input.dtype()), .bias = layer.bias, .pre = {}};
}

Tensor empty_with_channels(const Tensor& like, std::int64_t channels) {
  Shape shape = like.shape();
  shape.back() = channels;
  return Tensor::empty(shape, like.dtype(), like.device());
}

/// y = gelu(x Wᵀ + b); fills in `pre` where it is wanted.
template <class T>
Tensor forward_hidden(SavedLayer& layer, bool keep_pre) {
  const std::int64_t out = layer.rounded.dim(0);
  if (keep_pre) layer.pre = empty_with_channels(layer.input, out);
  Tensor y = empty_with_channels(layer.input, out);
  linear_gelu_forward<T>(y.stream(), {.rows = rows_of(y), .in = layer.rounded.dim(1), .out = out,
                                      .x = layer.input.template data<T>(), .weight = layer.rounded.template data<T>(),
                                      .bias = layer.bias.template data<Real<T>>(), .pre = data_or_null<T>(layer.pre),
                                      .y = y.template data<T>()});
  return y;
}

/// Inputs of the node: x, then weight and bias of each layer.
int weight_index(std::size_t layer) { return 1 + 2 * static_cast<int>(layer); }
int bias_index(std::size_t layer) { return weight_index(layer) + 1; }

/// From the last layer to the first, each released as soon as its gradients are there.
template <class T>
void backward(std::vector<SavedLayer>& layers, Backward& grad) {
  const auto gradient = [&](int index) {
    return grad.needs(index) ? grad.accumulate(index).template data<Real<T>>() : nullptr;
  };
  Tensor grad_y = grad.grad_output(0);
  const std::size_t last = layers.size() - 1;
  for (std::size_t i = layers.size(); i-- > 0; layers.pop_back()) {
    SavedLayer& layer = layers[i];
    const std::int64_t rows = rows_of(layer.input), in = layer.rounded.dim(1), out = layer.rounded.dim(0);
    const Backward::Sum grad_x = i == 0 && grad.needs(0) ? grad.sum(0) : Backward::Sum{};
    linear_backward<T>(layer.input.stream(),
                       {.rows = rows, .in = in, .out = out, .x = layer.input.template data<T>(),
                        .weight = layer.rounded.template data<T>(), .grad_y = grad_y.template data<T>(),
                        .grad_x = data_or_null<T>(grad_x.grad), .grad_x_adds = grad_x.adds,
                        .grad_weight = gradient(weight_index(i)),
                        .grad_bias = i == last ? gradient(bias_index(i)) : nullptr});
    if (i == 0) continue;
    layer.input = {};
    const SavedLayer& before = layers[i - 1];
    Tensor grad_pre = Tensor::empty(before.pre.shape(), before.pre.dtype(), before.pre.device());
    gelu_linear_backward<T>(before.pre.stream(),
                            {.rows = rows, .in = in, .out = out, .grad_y = grad_y.template data<T>(),
                             .weight = layer.rounded.template data<T>(), .pre = before.pre.template data<T>(),
                             .bias = before.bias.template data<Real<T>>(), .grad_pre = grad_pre.template data<T>(),
                             .grad_bias = gradient(bias_index(i - 1))});
    grad_y = grad_pre;
  }
}

}  // namespace

Tensor mlp(const Tensor& x, const std::vector<MlpLayer>& layers) {
  const CurrentOp op("mlp");
  QM_CHECK(!layers.empty(), ShapeError, "mlp: no layers");
  std::vector<Tensor> inputs{x};
  for (const MlpLayer& layer : layers) inputs.insert(inputs.end(), {layer.weight, layer.bias});
  const bool recorded = Tape::wants(inputs);

  std::vector<SavedLayer> saved;
  Tensor y = x;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    SavedLayer& layer = saved.emplace_back(to_save(y, layers[i]));
    if (i + 1 < layers.size()) {
      visit_activation(x.dtype(), "mlp", [&]<class T>() { y = forward_hidden<T>(layer, recorded); });
    } else {
      const Tape::Pause pause;  // one node records all layers
      y = linear(y, layers[i].weight, layers[i].bias);
    }
    if (!recorded) saved.clear();
  }
  Tape::record("mlp", inputs, {y}, [dtype = x.dtype(), saved = std::move(saved)](Backward& grad) mutable {
    visit_activation(dtype, "mlp", [&]<class T>() { backward<T>(saved, grad); });
  });
  return y;
}

}  // namespace qm
