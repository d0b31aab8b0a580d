#include "kernels/linear_gelu.h"

#include <algorithm>

#include "kernels/base/dispatch.h"
#include "kernels/bias_gelu.h"
#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/gelu.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/linear.h"

// In bf16, with few enough inner channels, a product and its GELU are one kernel of ours: such a product waits for
// memory, and GELU in a pass of its own reads what the product has just written (backward: and writes it again).
// cuBLASLt's epilogues have the tanh form only. All else is a product of cuBLASLt's and a pass of kernels/bias_gelu.h.
//
// A block has a tile of the weight's columns in shared memory and walks a chunk of rows, a tile of them at a time, with
// the next tile on its way. Its eight warps share the tile's rows and columns out among themselves.
namespace qm::cuda {
namespace {

/// A product's columns go by groups of 32, four second factors of 8 (kernels/cuda/tensor_core.cuh). With q = lane % 4,
/// a lane holds columns 2q and 2q + 1 of each. The weight's columns lie in shared memory in such an order that those
/// are 8 neighbours in the result, 8q … 8q + 7, which are read and written at once.
constexpr int kGroup = 32;
constexpr int kFactors = 4;
constexpr int kNeighbours = 8;

/// Where a pair of columns, 8 octet + 2 pair of a group in the result, begins in the order in shared memory.
__device__ __forceinline__ int place_of(int octet, int pair) { return pair * 8 + 2 * octet; }

using Octet = Vector<bfloat16, kNeighbours>;

/// What a block makes at a time. It has 8 warps, `RowWarps` of them one above the other; each makes `RowTiles` times 16
/// rows by a group of columns. Registers are shared out for `Blocks` blocks a multiprocessor.
template <int RowWarps, int RowTiles, int Blocks>
struct ProductTile {
  static constexpr int kRowTiles = RowTiles, kBlocks = Blocks;
  static constexpr int kRowWarps = RowWarps, kColumnWarps = kBlock / kWarp / RowWarps;
  static constexpr int kWarpRows = 16 * RowTiles;
  static constexpr int kRows = kWarpRows * RowWarps, kColumns = kColumnWarps * kGroup;
  /// Of a warp's rows those that a lane has neighbours in: one of each 8.
  static constexpr int kParts = 2 * RowTiles;

  /// Numbers from a row of a matrix in shared memory to the next: its width and a little, so that eight rows lie in
  /// different banks.
  static constexpr int kPad = 8;

  /// Of a product over `inner` channels: the weight, and two tiles of rows.
  template <bool kWeightTransposed>
  static std::size_t shared_bytes(int inner) {
    const int weight = kWeightTransposed ? kColumns * (inner + kPad) : inner * (kColumns + kPad);
    return static_cast<std::size_t>(weight + 2 * kRows * (inner + kPad)) * sizeof(bfloat16);
  }

  using Sums = float[kRowTiles][kFactors][4];
};

/// The product of a block's rows with its columns of the weight: D = A W or, where the weight is transposed, A Wᵀ.
///   a (rows, inner); weight (inner, columns), or transposed (columns, inner)
template <class Tile, bool kWeightTransposed>
class BlockProduct {
 public:
  __device__ __forceinline__ BlockProduct(std::int64_t rows, int inner, int columns, const bfloat16* a,
                                          const bfloat16* weight, bfloat16* shared)
      : rows_(rows),
        inner_(inner),
        pitch_(inner + Tile::kPad),
        columns_(columns),
        a_(a),
        weight_(shared),
        tiles_(shared + (kWeightTransposed ? Tile::kColumns * pitch_ : inner * kWeightPitch)) {
    load_weight(weight);
  }

  /// The warp's first row in a tile, and its first column.
  __device__ __forceinline__ static int warp_row() { return warp() / Tile::kColumnWarps * Tile::kWarpRows; }
  __device__ __forceinline__ static int warp_column() { return warp() % Tile::kColumnWarps * kGroup; }
  /// The lane's row of 8, and its first column of the warp's.
  __device__ __forceinline__ static int lane_row() { return lane() / 4; }
  __device__ __forceinline__ static int lane_column() { return lane() % 4 * kNeighbours; }

  /// Sends for the rows from `first`, into buffer 0 or 1; zeros beyond the last.
  __device__ __forceinline__ void fetch(std::int64_t first, int buffer) const {
    const int vectors = inner_ / 8, row_step = kBlock / vectors, vector_step = kBlock % vectors;
    int row = static_cast<int>(threadIdx.x) / vectors, vector = static_cast<int>(threadIdx.x) % vectors;
    const std::uint32_t to = shared_address(tiles_ + buffer * Tile::kRows * pitch_);
    while (row < Tile::kRows) {
      const bool exists = first + row < rows_;
      copy_async(to + static_cast<std::uint32_t>(row * pitch_ + vector * 8) * sizeof(bfloat16),
                 a_ + (exists ? (first + row) * inner_ + vector * 8 : 0), exists ? 0 : -1);
      row += row_step;
      vector += vector_step;
      if (vector >= vectors) {
        vector -= vectors;
        ++row;
      }
    }
  }

  /// The warp's part of the product of the rows in a buffer, which have arrived.
  __device__ __forceinline__ void multiply(int buffer, typename Tile::Sums& sums) const {
#pragma unroll
    for (auto& row : sums) {
#pragma unroll
      for (auto& factor : row) {
#pragma unroll
        for (float& number : factor) number = 0;
      }
    }
    const int matrix = lane() / 8, line = lane() % 8;
    const bfloat16* const rows =
        tiles_ + (buffer * Tile::kRows + warp_row() + matrix % 2 * 8 + line) * pitch_ + matrix / 2 * 8;
    // A matrix of the weight: 8 columns, of two second factors in turn, by one half of 16 inner channels.
    const int column = warp_column() + matrix / 2 * 8, half = matrix % 2 * 8;
    const bfloat16* const weight = kWeightTransposed ? weight_ + (column + line) * pitch_ + half
                                                     : weight_ + (half + line) * kWeightPitch + column;
#pragma unroll 2
    for (int k = 0; k < inner_; k += 16) {
      FragmentA a[Tile::kRowTiles];
#pragma unroll
      for (int m = 0; m < Tile::kRowTiles; ++m) load_matrices(a[m].a, rows + m * 16 * pitch_ + k);
#pragma unroll
      for (int n = 0; n < kFactors; n += 2) {
        FragmentB b[2];
        if constexpr (kWeightTransposed) {
          load_matrices(b, weight + n * 8 * pitch_ + k);
        } else {
          load_transposed(b, weight + k * kWeightPitch + n * 8);
        }
#pragma unroll
        for (int m = 0; m < Tile::kRowTiles; ++m) {
          multiply_add(sums[m][n], a[m], b[0]);
          multiply_add(sums[m][n + 1], a[m], b[1]);
        }
      }
    }
  }

  /// The lane's neighbours in row 8 part + lane_row() of the warp's.
  __device__ __forceinline__ static void take(const typename Tile::Sums& sums, int part,
                                              float (&numbers)[kNeighbours]) {
#pragma unroll
    for (int j = 0; j < kFactors; ++j) {
      numbers[2 * j] = sums[part / 2][j][part % 2 * 2];
      numbers[2 * j + 1] = sums[part / 2][j][part % 2 * 2 + 1];
    }
  }

 private:
  static constexpr int kWeightPitch = Tile::kColumns + Tile::kPad;  ///< where it is not transposed

  __device__ __forceinline__ static int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
  __device__ __forceinline__ static int lane() { return static_cast<int>(threadIdx.x) % kWarp; }

  __device__ __forceinline__ void load_weight(const bfloat16* weight) {
    const int first = static_cast<int>(blockIdx.x) * Tile::kColumns;
    if constexpr (kWeightTransposed) {
      const int vectors = inner_ / 8;
      for (int i = static_cast<int>(threadIdx.x); i < Tile::kColumns * vectors; i += kBlock) {
        const int column = i / vectors, vector = i % vectors, in_group = column % kGroup;
        const int place = column - in_group + place_of(in_group / 8, in_group % 8 / 2) + in_group % 2;
        const bool exists = first + column < columns_;
        copy_async(shared_address(weight_ + place * pitch_ + vector * 8),
                   weight + (exists ? static_cast<std::int64_t>(first + column) * inner_ + vector * 8 : 0),
                   exists ? 0 : -1);
      }
    } else {
      constexpr int kOctets = Tile::kColumns / kNeighbours;
      for (int i = static_cast<int>(threadIdx.x); i < inner_ * kOctets; i += kBlock) {
        const int k = i / kOctets, octet = i % kOctets, column = octet * kNeighbours;
        uint4 words = {};
        if (first + column < columns_) {
          words = *reinterpret_cast<const uint4*>(weight + static_cast<std::int64_t>(k) * columns_ + first + column);
        }
        const std::uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
        bfloat16* const row = weight_ + k * kWeightPitch + octet / 4 * kGroup;
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
          *reinterpret_cast<std::uint32_t*>(row + place_of(octet % 4, pair)) = pairs[pair];
        }
      }
    }
  }

  std::int64_t rows_;
  int inner_, pitch_, columns_;
  const bfloat16* a_;
  bfloat16* weight_;
  bfloat16* tiles_;
};

/// Calls visit(buffer, first row) for each tile of the block's chunk, when its rows have arrived.
template <class Tile, class Product, class Visit>
__device__ __forceinline__ void for_row_tiles(const Product& product, std::int64_t rows, int chunk_tiles, Visit visit) {
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * chunk_tiles * Tile::kRows;
  const std::int64_t end = min(rows, begin + static_cast<std::int64_t>(chunk_tiles) * Tile::kRows);
  product.fetch(begin, 0);
  commit_copies();
  int buffer = 0;
  for (std::int64_t first = begin; first < end; first += Tile::kRows, buffer ^= 1) {
    if (first + Tile::kRows < end) product.fetch(first + Tile::kRows, buffer ^ 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    visit(buffer, first);
  }
}

/// The bias of the lane's neighbours from a column on.
__device__ __forceinline__ void load_bias(const float* from, float (&bias)[kNeighbours]) {
#pragma unroll
  for (int i = 0; i < kNeighbours; i += 4) load_vector<4>(from + i, reinterpret_cast<float(&)[4]>(bias[i]));
}

// y = gelu(pre + b), pre = x Wᵀ. Grid (tiles of columns, chunks of rows): as in kernels/linear_gelu.h.
template <class Tile>
__global__ void __launch_bounds__(kBlock, Tile::kBlocks)
    linear_gelu_forward_kernel(const __grid_constant__ LinearGeluForward<bfloat16> p, int chunk_tiles) {
  extern __shared__ __align__(16) bfloat16 shared[];
  using Product = BlockProduct<Tile, true>;
  const int out = static_cast<int>(p.out);
  const Product product(p.rows, static_cast<int>(p.in), out, p.x, p.weight, shared);
  const int column = static_cast<int>(blockIdx.x) * Tile::kColumns + Product::warp_column() + Product::lane_column();
  for_row_tiles<Tile>(product, p.rows, chunk_tiles, [&](int buffer, std::int64_t first) {
    typename Tile::Sums sums;
    product.multiply(buffer, sums);
    __syncthreads();  // the buffer may be filled again
    if (column >= out) return;
    float bias[kNeighbours];
    load_bias(p.bias + column, bias);
#pragma unroll
    for (int part = 0; part < Tile::kParts; ++part) {
      const std::int64_t row = first + Product::warp_row() + part * 8 + Product::lane_row();
      if (row >= p.rows) break;
      float v[kNeighbours];
      Product::take(sums, part, v);
      const Octet pre = Octet::of(v);
      if (p.pre) pre.store(p.pre + row * out + column);
#pragma unroll
      for (int i = 0; i < kNeighbours; ++i) v[i] = gelu<bfloat16>(pre[i] + bias[i]);
      Octet::of(v).store(p.y + row * out + column);
    }
  });
}

/// partial[c] = the sum of column c of the block's tile over the block's rows; `mine`: the lane's sums of its
/// neighbours, `columns`: how many there are from the tile's first on. Over the lanes that share columns first, then
/// over the warps one above the other, in their order. All threads must call it, when `shared` is free: (row warps,
/// columns of a tile).
template <class Tile, class Product>
__device__ __forceinline__ void store_column_sums(const float (&mine)[kNeighbours], float* shared, int columns,
                                                  float* partial) {
#pragma unroll
  for (int i = 0; i < kNeighbours; ++i) {
    float sum = mine[i];
#pragma unroll
    for (int lanes = 4; lanes < kWarp; lanes *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    if (Product::lane_row() == 0) {
      shared[Product::warp_row() / Tile::kWarpRows * Tile::kColumns + Product::warp_column() + Product::lane_column() +
             i] = sum;
    }
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < min(Tile::kColumns, columns); c += kBlock) {
    float sum = 0;
    for (int warp = 0; warp < Tile::kRowWarps; ++warp) sum += shared[warp * Tile::kColumns + c];
    partial[c] = sum;
  }
}

// grad_pre = (grad_y W) · gelu'(pre + b), and the first stage of grad_b = Σ_rows grad_pre. Grid (tiles of columns,
// chunks of rows): as in kernels/linear_gelu.h; partial (chunks, in) or null.
template <class Tile>
__global__ void __launch_bounds__(kBlock, Tile::kBlocks)
    gelu_linear_backward_kernel(const __grid_constant__ GeluLinearBackward<bfloat16> p, int chunk_tiles,
                                float* partial) {
  extern __shared__ __align__(16) bfloat16 shared[];
  using Product = BlockProduct<Tile, false>;
  const int in = static_cast<int>(p.in), first_column = static_cast<int>(blockIdx.x) * Tile::kColumns;
  const Product product(p.rows, static_cast<int>(p.out), in, p.grad_y, p.weight, shared);
  const int column = first_column + Product::warp_column() + Product::lane_column();
  float total[kNeighbours] = {};
  for_row_tiles<Tile>(product, p.rows, chunk_tiles, [&](int buffer, std::int64_t first) {
    const std::int64_t first_row = first + Product::warp_row() + Product::lane_row();
    const auto exists = [&](int part) { return first_row + part * 8 < p.rows && column < in; };
    const auto load_pre = [&](int part) {
      return exists(part) ? Octet::load(p.pre + (first_row + part * 8) * in + column) : Octet();
    };
    Octet coming[2] = {load_pre(0), load_pre(1)};  // while the product is made
    typename Tile::Sums sums;
    product.multiply(buffer, sums);
    __syncthreads();  // the buffer may be filled again
#pragma unroll
    for (int part = 0; part < Tile::kParts; ++part) {
      const Octet pre = coming[part % 2];
      if (part + 2 < Tile::kParts) coming[part % 2] = load_pre(part + 2);
      if (!exists(part)) continue;
      float grad[kNeighbours], bias[kNeighbours];
      Product::take(sums, part, grad);
      load_bias(p.bias + column, bias);
#pragma unroll
      for (int i = 0; i < kNeighbours; ++i) {
        grad[i] *= gelu_derivative<bfloat16>(pre[i] + bias[i]);
        total[i] += grad[i];
      }
      Octet::of(grad).store(p.grad_pre + (first_row + part * 8) * in + column);
    }
  });
  if (!partial) return;
  // No warp reads the weight or the rows any more: all have passed the barrier behind the last product.
  store_column_sums<Tile, Product>(total, reinterpret_cast<float*>(shared), in - first_column,
                                   partial + static_cast<std::int64_t>(blockIdx.y) * in + first_column);
}

// ---- launches -------------------------------------------------------------------------------------------------------

/// Inner channels beyond which a product, by its operations a byte, is bound by arithmetic and better made by cuBLASLt.
constexpr std::int64_t kMostInner = 192;

/// Whether a product over `inner` channels with a result of `columns` may be one of ours.
template <class... Matrix>
bool is_narrow(std::int64_t inner, std::int64_t columns, const float* bias, const Matrix*... matrices) {
  constexpr std::int64_t kMostColumns = 1 << 20;  // so that an int numbers them
  return inner % 16 == 0 && inner <= kMostInner && columns <= kMostColumns && vectors_fit<8>(columns, matrices...) &&
         vectors_fit<4>(columns, bias);
}

/// How the rows of a product are shared out over its blocks: from its size alone, not from the device.
struct RowTileChunks {
  int column_tiles, tiles, count;  ///< tiles: of rows, a chunk

  template <class Tile>
  static RowTileChunks of(std::int64_t rows, std::int64_t columns) {
    constexpr std::int64_t kGridBlocks = 528;  // on an H100's 132 multiprocessors two waves of two, or one of four
    constexpr std::int64_t kChunks = 512;      // as many as add_column_sums takes at once
    const std::int64_t column_tiles = ceil_div(columns, Tile::kColumns), row_tiles = ceil_div(rows, Tile::kRows);
    const std::int64_t each = std::max(ceil_div(row_tiles * column_tiles, kGridBlocks), ceil_div(row_tiles, kChunks));
    return {static_cast<int>(column_tiles), static_cast<int>(each), static_cast<int>(ceil_div(row_tiles, each))};
  }
  dim3 grid() const { return dim3(static_cast<unsigned int>(column_tiles), static_cast<unsigned int>(count)); }
};

/// Lets the kernel have so much shared memory; false where the GPU has less. 99 KB a block are too few for the wide tile
/// with 192 inner channels and the narrow one with 160.
template <class Kernel>
bool allow_shared_memory(const Stream& stream, Kernel* kernel, std::size_t bytes) {
  int most = 0;
  QM_CUDA_CHECK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, stream.device.index));
  if (bytes > static_cast<std::size_t>(most)) return false;
  QM_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  return true;
}

template <class Tile>
bool launch_forward(const Stream& stream, const LinearGeluForward<bfloat16>& p) {
  const auto kernel = &linear_gelu_forward_kernel<Tile>;
  const std::size_t bytes = Tile::template shared_bytes<true>(static_cast<int>(p.in));
  if (!allow_shared_memory(stream, kernel, bytes)) return false;
  const auto chunks = RowTileChunks::of<Tile>(p.rows, p.out);
  kernel<<<chunks.grid(), kBlock, bytes, native(stream)>>>(p, chunks.tiles);
  check_launch("linear_gelu_forward");
  return true;
}

template <class Tile>
bool launch_backward(const Stream& stream, const GeluLinearBackward<bfloat16>& p) {
  const auto kernel = &gelu_linear_backward_kernel<Tile>;
  const std::size_t bytes = Tile::template shared_bytes<false>(static_cast<int>(p.out));
  if (!allow_shared_memory(stream, kernel, bytes)) return false;
  const auto chunks = RowTileChunks::of<Tile>(p.rows, p.in);
  const Scratch<float> partial(stream, p.grad_bias ? chunks.count * p.in : 0);
  kernel<<<chunks.grid(), kBlock, bytes, native(stream)>>>(p, chunks.tiles, p.grad_bias ? partial.data() : nullptr);
  check_launch("gelu_linear_backward");
  if (p.grad_bias) add_column_sums(stream, chunks.count, p.in, partial.data(), p.grad_bias);
  return true;
}

// Tiles by measurement on an H100. Backward has more to load than forward; with few inner channels the weight leaves
// room for many warps, which wait for their loads in turn.
using WideTile = ProductTile<2, 2, 2>;       // 64 rows by 128 columns
using NarrowTile = ProductTile<4, 2, 2>;     // 128 by 64; beyond 160 inner channels one block fills the shared memory
using ManyWarpsTile = ProductTile<4, 1, 4>;  // 64 by 64

/// As one kernel, or false.
bool fused_forward(const Stream& stream, const LinearGeluForward<bfloat16>& p) {
  if (!is_narrow(p.in, p.out, p.bias, p.x, p.weight, p.pre, p.y)) return false;
  return p.out > 64 ? launch_forward<WideTile>(stream, p) : launch_forward<NarrowTile>(stream, p);
}
bool fused_backward(const Stream& stream, const GeluLinearBackward<bfloat16>& p) {
  if (!is_narrow(p.out, p.in, p.bias, p.grad_y, p.weight, p.pre, p.grad_pre)) return false;
  return p.out > 128 ? launch_backward<WideTile>(stream, p) : launch_backward<ManyWarpsTile>(stream, p);
}

}  // namespace

template <class T>
void linear_gelu_forward(const Stream& stream, const LinearGeluForward<T>& p) {
  if (p.rows == 0) return;
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (fused_forward(stream, p)) return;
  }
  T* const pre = p.pre ? p.pre : p.y;
  cuda::linear_forward(stream, LinearForward<T>{.rows = p.rows, .in = p.in, .out = p.out, .x = p.x,
                                                .weight = p.weight, .bias = nullptr, .y = pre});
  cuda::bias_gelu_forward(
      stream, BiasGeluForward<T>{.rows = p.rows, .channels = p.out, .x = pre, .bias = p.bias, .y = p.y});
}

template <class T>
void gelu_linear_backward(const Stream& stream, const GeluLinearBackward<T>& p) {
  if (p.rows == 0) return;
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (fused_backward(stream, p)) return;
  }
  const Scratch<T> grad(stream, p.rows * p.in);  // with respect to what comes out of the GELU
  cuda::linear_backward(stream, LinearBackward<T>{.rows = p.rows, .in = p.in, .out = p.out, .x = nullptr,
                                                  .weight = p.weight, .grad_y = p.grad_y, .grad_x = grad.data(),
                                                  .grad_x_adds = false, .grad_weight = nullptr, .grad_bias = nullptr});
  cuda::bias_gelu_backward(
      stream, BiasGeluBackward<T>{.rows = p.rows, .channels = p.in, .x = p.pre, .bias = p.bias, .grad_y = grad.data(),
                                  .grad_x = p.grad_pre, .grad_bias = p.grad_bias});
}

QM_INSTANTIATE_CUDA(linear_gelu_forward, LinearGeluForward)
QM_INSTANTIATE_CUDA(gelu_linear_backward, GeluLinearBackward)

}  // namespace qm::cuda
