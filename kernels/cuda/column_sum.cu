#include "kernels/cuda/column_sum.cuh"

namespace qm::cuda {
namespace {

// sums[chunk, c] = Σ_{rows of the chunk} x[row, c], or added to sums if kAdds.
// Grid (chunks, columns / 32), block (32 columns, 8 row lanes): x (rows, width), sums (chunks, width).
template <bool kAdds, class T>
__global__ void column_sum_kernel(std::int64_t rows, std::int64_t chunk_rows, std::int64_t width, const T* x,
                                  Real<T>* sums) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x;
  const std::int64_t first = blockIdx.x * chunk_rows;
  const std::int64_t last = min(rows, first + chunk_rows);
  Real<T> sum = 0;
  if (c < width) {
    for (std::int64_t row = first + threadIdx.y; row < last; row += kRowLanes) sum += to_real(x[row * width + c]);
  }
  sum = sum_row_lanes(sum);
  if (threadIdx.y == 0 && c < width) {
    Real<T>& destination = sums[blockIdx.x * width + c];
    destination = kAdds ? destination + sum : sum;
  }
}

template <class T>
void add_in_one_stage(const Stream& stream, std::int64_t rows, std::int64_t width, const T* x, Real<T>* total) {
  const RowChunks whole{rows, 1};
  column_sum_kernel<true><<<whole.grid(width), whole.block(), 0, native(stream)>>>(rows, rows, width, x, total);
  check_launch("column_sum");
}

}  // namespace

template <class T>
void add_column_sums(const Stream& stream, std::int64_t rows, std::int64_t width, const T* x, Real<T>* total) {
  if (rows == 0 || width == 0) return;
  if (rows <= 512) return add_in_one_stage(stream, rows, width, x, total);
  const RowChunks chunks = row_chunks(rows);
  const Scratch<Real<T>> partial(stream, chunks.count * width);
  column_sum_kernel<false>
      <<<chunks.grid(width), chunks.block(), 0, native(stream)>>>(rows, chunks.rows, width, x, partial.data());
  check_launch("column_sum");
  add_in_one_stage(stream, chunks.count, width, partial.data(), total);
}

template void add_column_sums(const Stream&, std::int64_t, std::int64_t, const float*, float*);
template void add_column_sums(const Stream&, std::int64_t, std::int64_t, const double*, double*);
template void add_column_sums(const Stream&, std::int64_t, std::int64_t, const bfloat16*, float*);

}  // namespace qm::cuda
