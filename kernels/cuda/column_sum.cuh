// Sums over the rows of a matrix, in two stages of fixed order: chunks of rows into a partial sum each, then the partial
// sums. The chunks follow from the number of rows alone, not from the device. This is how every parameter gradient that
// is a sum over tokens is made; an op that forms its summands itself does the first stage and leaves it the second.
#pragma once

#include <algorithm>

#include "kernels/cuda/launch.cuh"

namespace qm::cuda {

/// Blocks of the first stage are kColumns × kRowLanes threads: neighbouring threads take neighbouring columns, and row
/// lane i takes the chunk's rows i, i + kRowLanes, …
inline constexpr int kColumns = 32;
inline constexpr int kRowLanes = 8;

struct RowChunks {
  std::int64_t rows;  ///< a chunk; the last may hold fewer
  std::int64_t count;

  /// The first stage's grid: chunks × groups of kColumns columns.
  dim3 grid(std::int64_t width) const {
    return dim3(static_cast<unsigned int>(count), static_cast<unsigned int>(ceil_div(width, kColumns)));
  }
  static dim3 block() { return dim3(kColumns, kRowLanes); }
};

/// At most 512 chunks, which the second stage adds in one go, of at least `least` rows.
inline RowChunks row_chunks(std::int64_t rows, std::int64_t least = 48) {
  const std::int64_t each = std::max(least, ceil_div(rows, 512));
  return {each, ceil_div(rows, each)};
}

/// The sum of a column over the block's row lanes, in their order; right in row lane 0. All threads must call it.
template <class R>
__device__ __forceinline__ R sum_row_lanes(R value) {
  __shared__ R lanes[kRowLanes][kColumns];
  lanes[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  R sum = 0;
  if (threadIdx.y == 0) {
    for (int lane = 0; lane < kRowLanes; ++lane) sum += lanes[lane][threadIdx.x];
  }
  __syncthreads();  // the next call may write
  return sum;
}

// ---- by vectors -----------------------------------------------------------------------------------------------------

/// How blocks of a first stage that reads N neighbouring columns at a time share rows of `width` columns, a multiple of
/// N: a block takes `groups` vectors of each row, `lanes` rows at once, so that nearly all of its threads are at work
/// whatever the width.
struct VectorColumns {
  static constexpr int kMostThreads = 256;

  int width, groups, lanes, parts;  ///< parts: of a row, a block each

  VectorColumns(std::int64_t columns, int n) : width(static_cast<int>(columns)) {
    const std::int64_t all = columns / n;
    parts = static_cast<int>(ceil_div(all, kMostThreads));
    groups = static_cast<int>(ceil_div(all, parts));
    lanes = kMostThreads / groups;
  }
  dim3 grid(std::int64_t chunks) const {
    return dim3(static_cast<unsigned int>(chunks), static_cast<unsigned int>(parts));
  }
  int threads() const { return static_cast<int>(ceil_div(groups * lanes, kWarp)) * kWarp; }

  /// This thread's row of those at once, and its first column; it is idle where that is not below `width`.
  __device__ __forceinline__ int lane() const { return static_cast<int>(threadIdx.x) / groups; }
  template <int N>
  __device__ __forceinline__ int column() const {
    const int group = static_cast<int>(blockIdx.y) * groups + static_cast<int>(threadIdx.x) % groups;
    return lane() < lanes ? group * N : width;
  }
};

/// sums[c] = the sum of a column over the block's lanes, in their order; `mine` are this thread's terms of its columns.
/// All threads must call it, once.
template <int N, class R>
__device__ __forceinline__ void store_lane_sums(const VectorColumns& v, const R (&mine)[N], R* sums) {
  __shared__ R lanes[VectorColumns::kMostThreads * N];
  const int thread = static_cast<int>(threadIdx.x), columns = v.groups * N, first = static_cast<int>(blockIdx.y) * columns;
  if (v.lane() < v.lanes) {
#pragma unroll
    for (int k = 0; k < N; ++k) lanes[thread * N + k] = mine[k];
  }
  __syncthreads();
  for (int i = thread; i < min(columns, v.width - first); i += static_cast<int>(blockDim.x)) {
    R sum = 0;
    for (int lane = 0; lane < v.lanes; ++lane) sum += lanes[lane * columns + i];
    sums[first + i] = sum;
  }
}

/// total[c] += Σ_rows x[row, c];   x (rows, width), total (width)
template <class T>
void add_column_sums(const Stream& stream, std::int64_t rows, std::int64_t width, const T* x, Real<T>* total);

/// The same of the two halves of x (2, rows, width), each into its own total unless that is null; at most 512 rows.
void add_column_sums_of_two(const Stream& stream, std::int64_t rows, std::int64_t width, const float* x, float* first,
                            float* second);

}  // namespace qm::cuda
