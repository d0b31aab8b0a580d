// Argument checks of the ops: one line that names op, argument, expectation and what came.
#pragma once

#include "autograd/tensor.h"

namespace qm {

inline void expect_shape(const char* op, const char* argument, const Tensor& tensor, const Shape& shape) {
  QM_CHECK(tensor.defined() && tensor.shape() == shape, ShapeError, op, ": expected ", argument, " of shape ",
           to_string(shape), ", got ", tensor.defined() ? to_string(tensor.shape()) : "nothing");
}

inline void expect_rank(const char* op, const char* argument, const Tensor& tensor, int rank) {
  QM_CHECK(tensor.defined() && tensor.rank() == rank, ShapeError, op, ": expected ", argument, " with ", rank,
           " axes, got ", tensor.defined() ? to_string(tensor.shape()) : "nothing");
}

/// The elements, or null for an undefined tensor.
template <class T>
T* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<T>() : nullptr;
}

/// All extents but the last, multiplied: the rows of a matrix product or a norm.
inline std::int64_t rows_of(const Tensor& tensor) { return tensor.count() / tensor.dim(-1); }

}  // namespace qm
