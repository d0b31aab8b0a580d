// The self-test of `quadmamba doctor`: does an op compute on this machine what it should?
//
// An op runs forward and backward on small random inputs, in float32 on the device in question and in float64 on the
// CPU. No output and no gradient may be further from the CPU's than kSelfTestTolerance of its norm.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace qm {

/// ‖error‖ / ‖reference‖ that sums of some hundred floats stay well below.
constexpr double kSelfTestTolerance = 1e-5;

struct OpCase {
  std::string name;  ///< of the op's file in autograd/ops
  /// On the CPU. Those in float64 are converted to the precision of the run and differentiated (by all of them, where
  /// `roots` names outputs); others, such as labels and step records, are moved to the device as they are.
  std::vector<Tensor> inputs;
  /// Its outputs: real ones, or int32.
  std::function<std::vector<Tensor>(const std::vector<Tensor>& inputs)> op;
  std::vector<std::size_t> roots = {0};  ///< the outputs that backward starts from; none: the op has no gradient
};

/// Every op of autograd/ops.
std::vector<OpCase> op_cases();

struct OpResult {
  std::string name;
  double error = 0;     ///< the largest ‖error‖ / ‖reference‖
  std::string failure;  ///< what is wrong, on one line; empty if nothing is

  bool passed() const { return failure.empty(); }
  /// "linear  ok      max error 3.1e-07"
  std::string text() const;
};

/// Throws nothing: an op that throws has failed.
OpResult test_op(const OpCase& op, Device device);

}  // namespace qm
