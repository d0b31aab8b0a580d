#include "kernels/cuda/column_sum.cuh"

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"

namespace qm::cuda {
namespace {

// sums[chunk, c] = Σ_{rows of the chunk} x[row, c].
// Grid (chunks, parts of a row), block as VectorColumns says: x (rows, width), sums (chunks, width).
template <int N, class T>
__global__ void column_sum_kernel(std::int64_t rows, std::int64_t chunk_rows, VectorColumns columns, const T* x,
                                  Real<T>* sums) {
  const std::int64_t first = blockIdx.x * chunk_rows, last = min(rows, first + chunk_rows);
  const int column = columns.column<N>();
  Real<T> sum[N] = {};
  if (column < columns.width) {
#pragma unroll 4
    for (std::int64_t row = first + columns.lane(); row < last; row += columns.lanes) {
      const T* at = x + row * columns.width + column;
      if constexpr (N == 1) {
        sum[0] += to_real(*at);
      } else {
        const auto vector = Vector<T, N>::load(at);
        for (int k = 0; k < N; ++k) sum[k] += vector[k];
      }
    }
  }
  store_lane_sums<N>(columns, sum, sums + static_cast<std::int64_t>(blockIdx.x) * columns.width);
}

constexpr int kTile = 32;  ///< columns of a block of the second stage, and its row lanes

// total[c] += Σ_rows x[row, c]. Grid (columns / 32, matrices), block (32 columns, 32 row lanes): x (matrices, rows,
// width); first_total, second_total (width), may be null.
template <class T>
__global__ void add_column_sums_kernel(std::int64_t rows, std::int64_t width, const T* x, Real<T>* first_total,
                                       Real<T>* second_total) {
  Real<T>* const total = blockIdx.y == 0 ? first_total : second_total;
  if (!total) return;
  x += blockIdx.y * rows * width;
  __shared__ Real<T> lanes[kTile][kTile + 1];
  const int i = static_cast<int>(threadIdx.x), j = static_cast<int>(threadIdx.y);
  const std::int64_t first = std::int64_t{blockIdx.x} * kTile;
  Real<T> sum = 0;
  if (first + i < width) {
#pragma unroll 8
    for (std::int64_t row = j; row < rows; row += kTile) sum += to_real(x[row * width + first + i]);
  }
  lanes[j][i] = sum;
  __syncthreads();
  sum = warp_sum(lanes[i][j]);
  if (i == 0 && first + j < width) total[first + j] += sum;
}

// The same for a few long rows. A thread a column: x (rows, width), total (width).
template <class T>
__global__ void add_rows_kernel(std::int64_t rows, std::int64_t width, const T* x, Real<T>* total) {
  const std::int64_t column = global_thread();
  if (column >= width) return;
  Real<T> sum = 0;
#pragma unroll 8
  for (std::int64_t row = 0; row < rows; ++row) sum += to_real(x[row * width + column]);
  total[column] += sum;
}

template <class T>
void add_in_one_stage(const Stream& stream, std::int64_t rows, std::int64_t width, const T* x, Real<T>* total) {
  if (rows < kTile && width > 1 << 16) {
    add_rows_kernel<<<blocks_for(width), kBlock, 0, native(stream)>>>(rows, width, x, total);
    return check_launch("add_rows");
  }
  add_column_sums_kernel<<<blocks_for(width, kTile), dim3(kTile, kTile), 0, native(stream)>>>(
      rows, width, x, total, static_cast<Real<T>*>(nullptr));
  check_launch("add_column_sums");
}

template <int N, class T>
void sum_chunks(const Stream& stream, const RowChunks& chunks, std::int64_t rows, std::int64_t width, const T* x,
                Real<T>* sums) {
  const VectorColumns columns(width, N);
  column_sum_kernel<N>
      <<<columns.grid(chunks.count), columns.threads(), 0, native(stream)>>>(rows, chunks.rows, columns, x, sums);
  check_launch("column_sum");
}

}  // namespace

template <class T>
void add_column_sums(const Stream& stream, std::int64_t rows, std::int64_t width, const T* x, Real<T>* total) {
  if (rows == 0 || width == 0) return;
  if (rows <= 512) return add_in_one_stage(stream, rows, width, x, total);
  const RowChunks chunks = row_chunks(rows);
  const Scratch<Real<T>> partial(stream, chunks.count * width);
  constexpr int kWide = 16 / sizeof(T);
  if constexpr (!std::is_same_v<T, double>) {
    if (vectors_fit<kWide>(width, x)) {
      sum_chunks<kWide>(stream, chunks, rows, width, x, partial.data());
      return add_in_one_stage(stream, chunks.count, width, partial.data(), total);
    }
  }
  sum_chunks<1>(stream, chunks, rows, width, x, partial.data());
  add_in_one_stage(stream, chunks.count, width, partial.data(), total);
}

void add_column_sums_of_two(const Stream& stream, std::int64_t rows, std::int64_t width, const float* x, float* first,
                            float* second) {
  if (rows == 0 || width == 0 || (!first && !second)) return;
  const dim3 grid(blocks_for(width, kTile), 2);
  add_column_sums_kernel<<<grid, dim3(kTile, kTile), 0, native(stream)>>>(rows, width, x, first, second);
  check_launch("add_column_sums");
}

template void add_column_sums(const Stream&, std::int64_t, std::int64_t, const float*, float*);
template void add_column_sums(const Stream&, std::int64_t, std::int64_t, const double*, double*);
template void add_column_sums(const Stream&, std::int64_t, std::int64_t, const bfloat16*, float*);

}  // namespace qm::cuda
