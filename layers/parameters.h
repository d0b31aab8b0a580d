// Parameters: named leaves of a model, all views on one flat buffer, with gradients that are views on another.
//
// Modules register their parameters through a Scope while they are built and hold Parameter pointers; once the model is
// complete, ParameterStore::allocate lays all of them out and initialises them. One flat buffer makes the optimizer, the
// EMA and the gradient exchange single passes.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "autograd/tensor.h"

namespace qm {

/// Uniform and normal numbers for element `index` of one parameter, keyed by (seed, the parameter's number, index).
class InitialRandom {
 public:
  InitialRandom(std::uint64_t seed, std::uint32_t parameter) : seed_(seed), parameter_(parameter) {}
  double uniform(std::int64_t index, double low, double high) const;
  double normal(std::int64_t index) const;
  /// The place of `index` in a random order of the `size` elements of its group: index / size is the group, and each
  /// group has its own order of 0 … size − 1.
  std::int64_t place_in_group(std::int64_t index, std::int64_t size) const;

 private:
  std::uint64_t seed_;
  std::uint32_t parameter_;
};

/// The initial value of element `index` (row-major).
using Initializer = std::function<double(const InitialRandom&, std::int64_t index)>;

struct Parameter {
  std::string name;  ///< published name, e.g. "layers.0.blocks.1.op.in_proj.weight"
  Shape shape;
  Initializer initial;
  std::int64_t offset = 0;  ///< in the flat buffers, in elements
  Tensor tensor;            ///< a leaf on the flat buffer; undefined before allocate()

  std::int64_t count() const { return count_of(shape); }
  /// No weight decay on 1-d parameters and on names ending in ".bias" (MODEL.md).
  bool decays() const;
};

class ParameterStore {
 public:
  ParameterStore() = default;
  ParameterStore(const ParameterStore&) = delete;  // modules hold pointers into it
  ParameterStore& operator=(const ParameterStore&) = delete;

  /// Throws qm::Error on a name already taken.
  Parameter* add(std::string name, Shape shape, Initializer initial);
  /// Lays out values and gradients on `device` and sets the initial values of `seed`: the same numbers, rounded, for every
  /// dtype. With activations of a lower precision than `dtype` a rounded copy of all values is kept beside them.
  void allocate(DType dtype, Device device, std::uint64_t seed, DType activations);
  void allocate(DType dtype, Device device, std::uint64_t seed) { allocate(dtype, device, seed, dtype); }
  /// Brings the rounded copy up to date. For whoever changes values() other than by the optimizer, which does it itself.
  void round() const;

  const std::deque<Parameter>& list() const { return parameters_; }
  const Parameter* find(const std::string& name) const;
  std::int64_t count() const;  ///< numbers in all parameters, without padding

  const Tensor& values() const { return values_; }        ///< flat, with padding between parameters
  const Tensor& gradients() const { return gradients_; }  ///< flat, the same layout
  const Tensor& rounded() const { return rounded_; }      ///< flat, the same layout; undefined where none is kept
  DType activations() const { return activations_; }

  /// A parameter's part of any flat buffer in this layout (values, gradients, moments, EMA).
  static Tensor view(const Parameter& parameter, const Tensor& flat) {
    return flat.slice(parameter.offset, parameter.shape);
  }

 private:
  std::deque<Parameter> parameters_;  // a deque: pointers stay valid
  std::unordered_map<std::string, const Parameter*> by_name_;
  Tensor values_, gradients_, rounded_;
  DType activations_ = DType::kFloat32;
};

/// A place in the tree of names.
class Scope {
 public:
  explicit Scope(ParameterStore& store) : store_(&store) {}
  Scope child(const std::string& name) const { return Scope(*store_, prefix_ + name + "."); }
  Parameter* parameter(const std::string& name, Shape shape, Initializer initial) const {
    return store_->add(prefix_ + name, std::move(shape), std::move(initial));
  }

 private:
  Scope(ParameterStore& store, std::string prefix) : store_(&store), prefix_(std::move(prefix)) {}
  ParameterStore* store_;
  std::string prefix_;
};

namespace initial {
Initializer constant(double value);
Initializer uniform(double bound);           ///< U(−bound, bound)
Initializer truncated_normal(double sigma);  ///< N(0, σ²) truncated to [−2, 2]
/// U(−bound, bound) for each element, but the `group` elements of a group (consecutive ones: a filter's weights) are a
/// stratified sample (Latin hypercube sampling: McKay, Beckman, Conover 1979): one in each of `group` equal parts of
/// the interval, in random order. Their sum then has variance bound²/(3·group) in place of group·bound²/3.
Initializer stratified_uniform(double bound, std::int64_t group);
}  // namespace initial

}  // namespace qm
