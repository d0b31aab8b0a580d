#include "kernels/depthwise_conv_silu.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/vector.cuh"

// v[b, i, j, d] = Σ_{ki, kj} w[d, ki, kj] x[b, i + ki − 1, j + kj − 1, d],   y = v σ(v)
//
// Backward, with gv = grad_y σ(v) (1 + v (1 − σ(v))) inside the map:
//   grad_x[b, i, j, d]  = Σ_{ki, kj} w[d, ki, kj] gv[b, i − ki + 1, j − kj + 1, d]
//   grad_w[d, ki, kj]  += Σ_{b, i, j} gv[b, i − ki + 1, j − kj + 1, d] x[b, i, j, d]
//
// A thread keeps the nine weights of N neighbouring channels and walks along two rows of the map, so every step of the
// forward pass reads four new vectors for two pixels; neighbouring threads hold neighbouring channels. Backward makes gv
// of the rows above and below again, for which it reads six vectors of x and four of grad_y: cheaper than a map of gv
// between two passes.
namespace qm::cuda {
namespace {

constexpr int kRows = 2;   ///< of the map that a thread walks at once
constexpr int kSpan = 28;  ///< pixels of a row that a thread of the per-pixel kernels walks

/// The window around kRows pixels, one below the other, of N channels of one image; 0 outside the map. Columns take
/// turns in three slots; the three after them are on their way, and not touched before they are wanted.
template <int N, class T>
class Window {
 public:
  using R = Real<T>;

  /// `row` is the first pixel's row, `image` the first channel's element of the image's first pixel.
  __device__ __forceinline__ Window(const DepthwiseShape& s, const T* image, std::int64_t row)
      : width_(static_cast<int>(s.width)), channels_(static_cast<int>(s.channels)) {
#pragma unroll
    for (int r = 0; r < kRows + 2; ++r) {
      const std::int64_t i = row + r - 1;
      line_[r] = i >= 0 && i < s.height ? image + i * s.width * s.channels : nullptr;
    }
  }

  /// body(j, left) for the pixels of columns [first, last); `left` is the slot of column j − 1, known when compiled.
  template <class Body>
  __device__ __forceinline__ void walk(int first, int last, Body body) {
#pragma unroll
    for (int slot = 0; slot < 3; ++slot) fetch(first - 1 + slot, slot);
#pragma unroll
    for (int slot = 0; slot < 2; ++slot) {
      arrive(slot);
      fetch(first + 2 + slot, slot);
    }
    for (int j = first; j < last; j += 3) {
#pragma unroll
      for (int left = 0; left < 3; ++left) {
        if (j + left >= last) break;
        const int right = (left + 2) % 3;  // the slot of column j + left + 1
        arrive(right);
        fetch(j + left + 4, right);
        body(j + left, left);
      }
    }
  }

  /// Of the pixel in row r: the vector at (ki, kj) of its window.
  __device__ __forceinline__ const R (&at(int r, int ki, int kj, int left) const)[N] {
    return value_[r + ki][(left + kj) % 3];
  }

 private:
  __device__ __forceinline__ void fetch(int j, int slot) {
    const bool inside = j >= 0 && j < width_;
    const int offset = j * channels_;
#pragma unroll
    for (int r = 0; r < kRows + 2; ++r) {
      coming_[slot][r] = line_[r] && inside ? Vector<T, N>::load(line_[r] + offset) : Vector<T, N>();
    }
  }
  __device__ __forceinline__ void arrive(int slot) {
#pragma unroll
    for (int r = 0; r < kRows + 2; ++r) {
#pragma unroll
      for (int c = 0; c < N; ++c) value_[r][slot][c] = coming_[slot][r][c];
    }
  }

  int width_, channels_;
  const T* line_[kRows + 2];
  Vector<T, N> coming_[3][kRows + 2];
  R value_[kRows + 2][3][N];
};

template <int N, class R>
struct Taps {
  R weight[3][3][N];

  /// all (channels, 1, 3, 3)
  __device__ __forceinline__ Taps(const R* all, std::int64_t channel) {
    for (int c = 0; c < N; ++c) {
      for (int k = 0; k < 9; ++k) weight[k / 3][k % 3][c] = all[(channel + c) * 9 + k];
    }
  }
  /// v of the pixel in row r.
  template <class T>
  __device__ __forceinline__ void correlate(const Window<N, T>& window, int r, int left, R (&sum)[N]) const {
    for (int c = 0; c < N; ++c) sum[c] = 0;
    for (int ki = 0; ki < 3; ++ki) {
      for (int kj = 0; kj < 3; ++kj) {
        for (int c = 0; c < N; ++c) sum[c] += weight[ki][kj][c] * window.at(r, ki, kj, left)[c];
      }
    }
  }
};

/// Of floats to a few units in the last place: both functions are the special-function unit's.
__device__ __forceinline__ float sigmoid(float v) {
  return __fdividef(1.0f, 1.0f + __expf(-v));
}

/// A stretch of kRows rows in the grid of the per-pixel kernels: x runs over rows and stretches, y over groups of
/// channels; block (32 × N channels, 8 stretches).
template <int N>
struct Stretch {
  std::int64_t channel, image, row;
  int first, last;  ///< pixels [first, last) of the rows
  bool exists;

  __device__ __forceinline__ Stretch(std::int64_t batch, std::int64_t height, std::int64_t width,
                                     std::int64_t channels) {
    channel = (static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x) * N;
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kRowLanes + threadIdx.y;
    const std::int64_t in_row = ceil_div(width, kSpan), rows = ceil_div(height, kRows);
    row = index / in_row % rows * kRows;
    image = index / (in_row * rows);
    first = static_cast<int>(index % in_row) * kSpan;
    last = min(static_cast<int>(width), first + kSpan);
    exists = channel < channels && image < batch;
  }

  static dim3 grid(std::int64_t batch, std::int64_t height, std::int64_t width, std::int64_t channels) {
    return dim3(blocks_for(batch * ceil_div(height, kRows) * ceil_div(width, kSpan), kRowLanes),
                blocks_for(channels, kColumns * N));
  }
};

// Stretches of the output, whose rows and columns beyond the map are 0.
// x (batch, height, width, channels), weight (channels, 1, 3, 3), y (batch, out_height, out_width, channels).
template <int N, class T>
__global__ void depthwise_conv_silu_forward_kernel(DepthwiseConvSiluForward<T> p) {
  using R = Real<T>;
  const DepthwiseShape& s = p.shape;
  const Stretch<N> stretch(s.batch, s.out_height, s.out_width, s.channels);
  if (!stretch.exists) return;
  T* y = p.y + (stretch.image * s.out_height + stretch.row) * s.out_width * s.channels + stretch.channel;
  const std::int64_t out_row = s.out_width * s.channels;
  const int channels = static_cast<int>(s.channels);
  const Taps<N, R> taps(p.weight, stretch.channel);
  Window<N, T> window(s, p.x + stretch.image * s.height * s.width * s.channels + stretch.channel, stretch.row);
  window.walk(stretch.first, stretch.last, [&](int j, int left) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (stretch.row + r >= s.out_height) break;
      R v[N];
      taps.correlate(window, r, left, v);
      const bool inside = stretch.row + r < s.height && j < s.width;
      for (int c = 0; c < N; ++c) v[c] = inside ? v[c] * sigmoid(v[c]) : R(0);
      store_vector<N>(v, y + r * out_row + j * channels);
    }
  });
}

/// The nine weights of a block's channels, in shared memory: backward has no registers left for them.
template <int N, class R>
struct SharedTaps {
  alignas(N * sizeof(R)) R weight[9][kColumns][N];

  /// all (channels, 1, 3, 3). The whole block calls it.
  __device__ __forceinline__ void fill(const R* all, std::int64_t channel, bool exists) {
    for (int k = threadIdx.y; k < 9; k += kRowLanes) {
      for (int c = 0; c < N; ++c) weight[k][threadIdx.x][c] = exists ? all[(channel + c) * 9 + k] : R(0);
    }
    __syncthreads();
  }
  __device__ __forceinline__ void load(int k, R (&to)[N]) const { load_vector<N>(weight[k][threadIdx.x], to); }
};

/// What backward keeps of a walk along kRows rows: of columns in turns, in the slot of their number modulo 3. Rows of gv
/// are the kRows and one above and below; rows of x, one more each.
template <int N, class T>
class BackwardWalk {
 public:
  using R = Real<T>;
  static constexpr int kGradients = kRows + 2, kInputs = kRows + 4;

  struct Column {
    Vector<T, N> x[kInputs];             ///< of column t
    Vector<T, N> grad_y[kGradients];     ///< of column t − 1
  };

  /// Takes what is new with column t, whose slot is known when compiled, and leaves the kRows rows' grad_x of column
  /// t − 2 in `grad_x`. Takes width + 2 columns; those outside the map are 0.
  __device__ __forceinline__ void take(const Column& column, const SharedTaps<N, R>& taps, int slot,
                                       R (&grad_x)[kRows][N]) {
    const int after = (slot + 1) % 3, before = (slot + 2) % 3;  // of columns t + 1 and t − 2; of t − 1
    asm volatile("" ::: "memory");  // the weights are loaded anew
#pragma unroll
    for (int r = 0; r < kGradients; ++r) {
      for (int c = 0; c < N; ++c) v_[r][after][c] = 0;
    }
#pragma unroll
    for (int ki = 0; ki < 3; ++ki) {
#pragma unroll
      for (int kj = 0; kj < 3; ++kj) {
        R weight[N];
        taps.load(3 * ki + kj, weight);
#pragma unroll
        for (int r = 0; r < kGradients; ++r) {
          for (int c = 0; c < N; ++c) v_[r][(after + 3 - kj) % 3][c] += weight[c] * column.x[r + ki][c];
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kGradients; ++r) {
      for (int c = 0; c < N; ++c) {
        const R v = v_[r][before][c], gate = sigmoid(v);
        gradient_[r][before][c] = column.grad_y[r][c] * gate * (R(1) + v * (R(1) - gate));
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < N; ++c) grad_x[r][c] = 0;
    }
#pragma unroll
    for (int ki = 0; ki < 3; ++ki) {
#pragma unroll
      for (int kj = 0; kj < 3; ++kj) {
        const int at = (before + 3 - kj) % 3;  // of column t − 1 − kj
        R weight[N];
        taps.load(3 * ki + kj, weight);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          for (int c = 0; c < N; ++c) {
            weight_sum_[3 * ki + kj][c] += gradient_[r + 2 - ki][at][c] * x_[r][after][c];
            grad_x[r][c] += weight[c] * gradient_[r + 2 - ki][at][c];
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) x_[r][slot] = column.x[r + 2];
  }

  /// Before another walk.
  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int slot = 0; slot < 3; ++slot) {
      for (int r = 0; r < kRows; ++r) x_[r][slot] = Vector<T, N>();
      for (int r = 0; r < kGradients; ++r) {
        for (int c = 0; c < N; ++c) v_[r][slot][c] = gradient_[r][slot][c] = 0;
      }
    }
  }

  __device__ __forceinline__ R weight_sum(int tap, int c) const { return weight_sum_[tap][c]; }

 private:
  Vector<T, N> x_[kRows][3];
  R v_[kGradients][3][N];         ///< so far
  R gradient_[kGradients][3][N];  ///< gv
  R weight_sum_[9][N] = {};       ///< of all walks
};

// grad_x, and the first stage of grad_w over chunks of the batch's pairs of rows.
// Grid (chunks, channels / 32 N), block (32 × N channels, 8 row lanes): x, grad_x (batch, height, width, channels),
// weight (channels, 1, 3, 3), grad_y (batch, out_height, out_width, channels), partial (chunks, channels, 9).
template <int N, class T>
__global__ void __launch_bounds__(kColumns* kRowLanes, 2)
    depthwise_conv_silu_backward_kernel(DepthwiseConvSiluBackward<T> p, std::int64_t chunk_pairs, Real<T>* partial) {
  using R = Real<T>;
  using Walk = BackwardWalk<N, T>;
  const DepthwiseShape& s = p.shape;
  const std::int64_t channel = (static_cast<std::int64_t>(blockIdx.y) * kColumns + threadIdx.x) * N;
  const bool exists = channel < s.channels;
  __shared__ SharedTaps<N, R> taps;
  taps.fill(p.weight, channel, exists);
  const std::int64_t pairs = ceil_div(s.height, kRows), first = blockIdx.x * chunk_pairs;
  const std::int64_t last = exists ? min(s.batch * pairs, first + chunk_pairs) : first;
  const int width = static_cast<int>(s.width), height = static_cast<int>(s.height);
  const int channels = static_cast<int>(s.channels);
  const int out_row = static_cast<int>(s.out_width) * channels, map_row = width * channels;
  Walk walk;
  for (std::int64_t pair = first + threadIdx.y; pair < last; pair += kRowLanes) {
    const std::int64_t image = pair / pairs;
    const int row = static_cast<int>(pair % pairs) * kRows;
    // Of the pair's first row; rows before it are at negative offsets.
    const T* const x = p.x + (image * height + row) * map_row + channel;
    const T* const grad_y = p.grad_y + (image * s.out_height + row) * out_row + channel;
    T* const grad_x = p.grad_x + (image * height + row) * map_row + channel;
    typename Walk::Column coming;
    const auto fetch = [&](int t) {
      int first = row, x_row = map_row, grad_row = out_row;
      asm volatile("" : "+r"(first), "+r"(x_row), "+r"(grad_row));  // else every row's pointer is kept
#pragma unroll
      for (int r = 0; r < Walk::kInputs; ++r) {
        const int i = first + r - 2;
        const bool inside = i >= 0 && i < height && t < width;
        coming.x[r] = inside ? Vector<T, N>::load(x + (r - 2) * x_row + t * channels) : Vector<T, N>();
      }
#pragma unroll
      for (int r = 0; r < Walk::kGradients; ++r) {
        const int i = first + r - 1;
        const bool inside = i >= 0 && i < height && t >= 1 && t <= width;
        coming.grad_y[r] =
            inside ? Vector<T, N>::load(grad_y + (r - 1) * grad_row + (t - 1) * channels) : Vector<T, N>();
      }
    };
    walk.begin();
    fetch(0);
    for (int front = 0; front < width + 2; front += 3) {
#pragma unroll
      for (int slot = 0; slot < 3; ++slot) {
        const int t = front + slot;
        const typename Walk::Column column = coming;
        fetch(t + 1);
        R result[kRows][N];
        walk.take(column, taps, slot, result);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          if (row + r < height && t >= 2 && t < width + 2) {
            store_vector<N>(result[r], grad_x + r * map_row + (t - 2) * channels);
          }
        }
      }
    }
  }
  for (int c = 0; c < N; ++c) {
    for (int k = 0; k < 9; ++k) {
      const R total = sum_row_lanes(walk.weight_sum(k, c));
      if (threadIdx.y == 0 && exists) partial[(blockIdx.x * s.channels + channel + c) * 9 + k] = total;
    }
  }
}

template <int N, class T>
void launch_forward(const Stream& stream, const DepthwiseConvSiluForward<T>& p) {
  const DepthwiseShape& s = p.shape;
  depthwise_conv_silu_forward_kernel<N>
      <<<Stretch<N>::grid(s.batch, s.out_height, s.out_width, s.channels), RowChunks::block(), 0, native(stream)>>>(p);
  check_launch("depthwise_conv_silu_forward");
}

template <int N, class T>
void launch_backward(const Stream& stream, const DepthwiseConvSiluBackward<T>& p) {
  const DepthwiseShape& s = p.shape;
  const RowChunks chunks = row_chunks(s.batch * ceil_div(s.height, kRows), kRowLanes);
  const Scratch<Real<T>> partial(stream, chunks.count * s.channels * 9);
  depthwise_conv_silu_backward_kernel<N><<<chunks.grid(ceil_div(s.channels, N)), chunks.block(), 0, native(stream)>>>(
      p, chunks.rows, partial.data());
  check_launch("depthwise_conv_silu_backward");
  if (p.grad_weight) add_column_sums(stream, chunks.count, s.channels * 9, partial.data(), p.grad_weight);
}

}  // namespace

template <class T>
void depthwise_conv_silu_forward(const Stream& stream, const DepthwiseConvSiluForward<T>& p) {
  if (p.shape.batch == 0) return;
  if (vectors_fit<2>(p.shape.channels, p.x, p.y)) return launch_forward<2>(stream, p);
  launch_forward<1>(stream, p);
}

template <class T>
void depthwise_conv_silu_backward(const Stream& stream, const DepthwiseConvSiluBackward<T>& p) {
  if (p.shape.batch == 0) return;
  if (vectors_fit<2>(p.shape.channels, p.x, p.grad_y, p.grad_x)) return launch_backward<2>(stream, p);
  launch_backward<1>(stream, p);
}

QM_INSTANTIATE_CUDA(depthwise_conv_silu_forward, DepthwiseConvSiluForward)
QM_INSTANTIATE_CUDA(depthwise_conv_silu_backward, DepthwiseConvSiluBackward)

}  // namespace qm::cuda
