#include "kernels/conv2d.h"

#include <cudnn.h>

#include <map>
#include <mutex>

#include "kernels/base/dispatch.h"
#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/image_conv.cuh"
#include "kernels/cuda/vector.cuh"

// y = x ∗ w + b with 3×3 windows, padding 1; the products and both gradients are cuDNN's, on channels-last maps. cuDNN
// wants the weights channels last too: (out, 3, 3, in), packed from our (out, in, 3, 3) on the way in, and the gradient
// unpacked on the way out. True float (CUDNN_FMA_MATH), deterministic algorithms only.
//
// In bfloat16 an image's convolution, of 3 channels, is kernels/cuda/image_conv.cuh's where is_image_conv() says so.
namespace qm::cuda {
namespace {

// ---- kernels ---------------------------------------------------------------------------------------------------------

constexpr int kSlab = 128;  ///< input channels whose weights a block turns in shared memory, so that it reads and
                            ///< writes neighbours on both sides

// packed[o, k, c] = weight[o, c, k]. Grid (out, slabs of in), kSlab threads: weight (out, in, 9), packed (out, 9, in).
template <class T>
__global__ void conv2d_pack_kernel(std::int64_t in, const Real<T>* weight, T* packed) {
  __shared__ Real<T> slab[kSlab * 9];
  const std::int64_t o = blockIdx.x, first = std::int64_t{blockIdx.y} * kSlab;
  const int channels = static_cast<int>(min(in - first, std::int64_t{kSlab})), c = static_cast<int>(threadIdx.x);
  for (int i = c; i < channels * 9; i += kSlab) slab[i] = weight[(o * in + first) * 9 + i];
  __syncthreads();
  if (c >= channels) return;
  for (int k = 0; k < 9; ++k) packed[(o * 9 + k) * in + first + c] = from_real<T>(slab[c * 9 + k]);
}

// grad_weight[o, c, k] += packed[o, k, c]. Grid (out, slabs of in), kSlab threads: packed (out, 9, in),
// grad_weight (out, in, 9).
template <class T>
__global__ void conv2d_unpack_kernel(std::int64_t in, const T* packed, Real<T>* grad_weight) {
  __shared__ Real<T> slab[kSlab * 9];
  const std::int64_t o = blockIdx.x, first = std::int64_t{blockIdx.y} * kSlab;
  const int channels = static_cast<int>(min(in - first, std::int64_t{kSlab})), c = static_cast<int>(threadIdx.x);
  for (int k = 0; c < channels && k < 9; ++k) slab[c * 9 + k] = to_real(packed[(o * 9 + k) * in + first + c]);
  __syncthreads();
  for (int i = c; i < channels * 9; i += kSlab) grad_weight[(o * in + first) * 9 + i] += slab[i];
}

// y[row, o] += bias[o]. N elements a thread: y (count) = (rows, out), out a multiple of N; bias (out).
template <int N, class T>
__global__ void conv2d_bias_kernel(std::int64_t count, std::int64_t out, const Real<T>* bias, T* y) {
  const std::int64_t i = global_thread() * N;
  if (i >= count) return;
  const std::int64_t o = i % out;
  Real<T> v[N];
  load_vector<N>(y + i, v);
  for (int k = 0; k < N; ++k) v[k] += bias[o + k];
  store_vector<N>(v, y + i);
}

// ---- cuDNN -----------------------------------------------------------------------------------------------------------

void check_cudnn(cudnnStatus_t status, const char* expression) {
  QM_CHECK(status == CUDNN_STATUS_SUCCESS, CudaError, expression, ": ", cudnnGetErrorString(status));
}
#define QM_CUDNN_CHECK(expression) check_cudnn((expression), #expression)

template <class T>
constexpr cudnnDataType_t kCudnnType = CUDNN_DATA_FLOAT;
template <>
constexpr cudnnDataType_t kCudnnType<bfloat16> = CUDNN_DATA_BFLOAT16;

/// What cuDNN's choice depends on.
struct ConvolutionKey {
  std::int64_t batch, height, width, in, out, stride;
  cudnnDataType_t type;
  auto operator<=>(const ConvolutionKey&) const = default;
};

/// The deterministic algorithm that cuDNN expects to be fastest: its guess, not a timing, so every run chooses the same.
/// `ask(most, &found, candidates)` lists its candidates in that order.
template <class Performance, class Ask>
auto best_algorithm(const char* pass, Ask ask) {
  Performance candidates[16];
  int found = 0;
  ask(16, &found, candidates);
  for (int i = 0; i < found; ++i) {
    if (candidates[i].status == CUDNN_STATUS_SUCCESS && candidates[i].determinism == CUDNN_DETERMINISTIC) {
      return candidates[i].algo;
    }
  }
  throw CudaError(concat("conv2d: cuDNN has no deterministic algorithm for ", pass));
}

/// One shape's descriptors and algorithms. Lives as long as the process.
class Convolution {
 public:
  Convolution(cudnnHandle_t handle, const ConvolutionKey& key) {
    const auto i = [](std::int64_t value) { return static_cast<int>(value); };
    const auto extent = [&](std::int64_t size) { return i((size - 1) / key.stride + 1); };
    QM_CUDNN_CHECK(cudnnCreateTensorDescriptor(&x_));
    QM_CUDNN_CHECK(cudnnSetTensor4dDescriptor(x_, CUDNN_TENSOR_NHWC, key.type, i(key.batch), i(key.in), i(key.height),
                                              i(key.width)));
    QM_CUDNN_CHECK(cudnnCreateTensorDescriptor(&y_));
    QM_CUDNN_CHECK(cudnnSetTensor4dDescriptor(y_, CUDNN_TENSOR_NHWC, key.type, i(key.batch), i(key.out),
                                              extent(key.height), extent(key.width)));
    QM_CUDNN_CHECK(cudnnCreateFilterDescriptor(&weight_));
    QM_CUDNN_CHECK(cudnnSetFilter4dDescriptor(weight_, key.type, CUDNN_TENSOR_NHWC, i(key.out), i(key.in), 3, 3));
    QM_CUDNN_CHECK(cudnnCreateConvolutionDescriptor(&convolution_));
    QM_CUDNN_CHECK(cudnnSetConvolution2dDescriptor(convolution_, 1, 1, i(key.stride), i(key.stride), 1, 1,
                                                   CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    // The descriptor's word on arithmetic binds every algorithm that is run with it.
    QM_CUDNN_CHECK(cudnnSetConvolutionMathType(
        convolution_, key.type == CUDNN_DATA_FLOAT ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH));
    choose_forward(handle);
    choose_data(handle);
    choose_filter(handle);
  }

  template <class T>
  void forward(cudnnHandle_t handle, const Stream& stream, const T* x, const T* weight, T* y) const {
    const Scratch<char> workspace = workspace_for(stream, forward_bytes_);
    QM_CUDNN_CHECK(cudnnConvolutionForward(handle, &kOne, x_, x, weight_, weight, convolution_, forward_,
                                           workspace.data(), forward_bytes_, &kZero, y_, y));
  }
  template <class T>
  void backward_data(cudnnHandle_t handle, const Stream& stream, const T* weight, const T* grad_y, T* grad_x) const {
    const Scratch<char> workspace = workspace_for(stream, data_bytes_);
    QM_CUDNN_CHECK(cudnnConvolutionBackwardData(handle, &kOne, weight_, weight, y_, grad_y, convolution_, data_,
                                                workspace.data(), data_bytes_, &kZero, x_, grad_x));
  }
  template <class T>
  void backward_weight(cudnnHandle_t handle, const Stream& stream, const T* x, const T* grad_y, T* grad_weight) const {
    const Scratch<char> workspace = workspace_for(stream, filter_bytes_);
    QM_CUDNN_CHECK(cudnnConvolutionBackwardFilter(handle, &kOne, x_, x, y_, grad_y, convolution_, filter_,
                                                  workspace.data(), filter_bytes_, &kZero, weight_, grad_weight));
  }

 private:
  static constexpr float kOne = 1, kZero = 0;

  static Scratch<char> workspace_for(const Stream& stream, std::size_t bytes) {
    return Scratch<char>(stream, static_cast<std::int64_t>(bytes));
  }

  void choose_forward(cudnnHandle_t handle) {
    forward_ = best_algorithm<cudnnConvolutionFwdAlgoPerf_t>("the forward pass", [&](int most, int* found, auto* list) {
      QM_CUDNN_CHECK(
          cudnnGetConvolutionForwardAlgorithm_v7(handle, x_, weight_, convolution_, y_, most, found, list));
    });
    QM_CUDNN_CHECK(cudnnGetConvolutionForwardWorkspaceSize(handle, x_, weight_, convolution_, y_, forward_,
                                                           &forward_bytes_));
  }
  void choose_data(cudnnHandle_t handle) {
    data_ = best_algorithm<cudnnConvolutionBwdDataAlgoPerf_t>(
        "the map's gradient", [&](int most, int* found, auto* list) {
          QM_CUDNN_CHECK(
              cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, weight_, y_, convolution_, x_, most, found, list));
        });
    QM_CUDNN_CHECK(cudnnGetConvolutionBackwardDataWorkspaceSize(handle, weight_, y_, convolution_, x_, data_,
                                                                &data_bytes_));
  }
  void choose_filter(cudnnHandle_t handle) {
    filter_ = best_algorithm<cudnnConvolutionBwdFilterAlgoPerf_t>(
        "the weights' gradient", [&](int most, int* found, auto* list) {
          QM_CUDNN_CHECK(
              cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, x_, y_, convolution_, weight_, most, found, list));
        });
    QM_CUDNN_CHECK(cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, x_, y_, convolution_, weight_, filter_,
                                                                  &filter_bytes_));
  }

  cudnnTensorDescriptor_t x_ = nullptr, y_ = nullptr;
  cudnnFilterDescriptor_t weight_ = nullptr;
  cudnnConvolutionDescriptor_t convolution_ = nullptr;
  cudnnConvolutionFwdAlgo_t forward_{};
  cudnnConvolutionBwdDataAlgo_t data_{};
  cudnnConvolutionBwdFilterAlgo_t filter_{};
  std::size_t forward_bytes_ = 0, data_bytes_ = 0, filter_bytes_ = 0;  // of workspace
};

/// cuDNN on one GPU. Its handle serves one thread at a time: the lock is held while work is queued.
class Cudnn {
 public:
  /// The one of the current device, which must be `device`.
  static Cudnn& on(Device device) {
    static std::mutex mutex;
    // Never destroyed: cuDNN may be gone before a static object is.
    static auto* all = new std::map<int, Cudnn*>;
    std::lock_guard lock(mutex);
    Cudnn*& cudnn = (*all)[device.index];
    if (!cudnn) cudnn = new Cudnn;
    return *cudnn;
  }

  /// Calls body(handle, convolution) with the handle on `stream`.
  template <class T, class Body>
  void with(const Stream& stream, const Conv2dShape& s, Body body) {
    std::lock_guard lock(mutex_);
    QM_CUDNN_CHECK(cudnnSetStream(handle_, native(stream)));
    const ConvolutionKey key{s.batch, s.height, s.width, s.in, s.out, s.stride, kCudnnType<T>};
    auto found = convolutions_.find(key);
    if (found == convolutions_.end()) found = convolutions_.emplace(key, Convolution(handle_, key)).first;
    body(handle_, found->second);
  }

 private:
  Cudnn() { QM_CUDNN_CHECK(cudnnCreate(&handle_)); }

  cudnnHandle_t handle_ = nullptr;
  std::mutex mutex_;
  std::map<ConvolutionKey, Convolution> convolutions_;
};

dim3 slabs_of(const Conv2dShape& s) {
  return dim3(static_cast<unsigned int>(s.out), blocks_for(s.in, kSlab));
}

template <class T>
void pack(const Stream& stream, const Conv2dShape& s, const Real<T>* weight, T* packed) {
  conv2d_pack_kernel<<<slabs_of(s), kSlab, 0, native(stream)>>>(s.in, weight, packed);
  check_launch("conv2d_pack");
}

template <class T>
void add_unpacked(const Stream& stream, const Conv2dShape& s, const T* packed, Real<T>* grad_weight) {
  conv2d_unpack_kernel<<<slabs_of(s), kSlab, 0, native(stream)>>>(s.in, packed, grad_weight);
  check_launch("conv2d_unpack");
}

template <int N, class T>
void add_bias(const Stream& stream, const Conv2dForward<T>& p) {
  const Conv2dShape& s = p.shape;
  const std::int64_t count = s.batch * s.out_height() * s.out_width() * s.out;
  conv2d_bias_kernel<N><<<blocks_for(count / N), kBlock, 0, native(stream)>>>(count, s.out, p.bias, p.y);
  check_launch("conv2d_bias");
}

}  // namespace

// ---- launchers -------------------------------------------------------------------------------------------------------

template <class T>
void conv2d_forward(const Stream& stream, const Conv2dForward<T>& p) {
  const Conv2dShape& s = p.shape;
  if (s.batch == 0) return;
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (is_image_conv(s, p.x, p.y)) return image_conv_forward(stream, p);
  }
  const Scratch<T> weight(stream, s.out * 9 * s.in);
  pack(stream, s, p.weight, weight.data());
  Cudnn::on(stream.device).with<T>(stream, s, [&](cudnnHandle_t handle, const Convolution& convolution) {
    convolution.forward(handle, stream, p.x, weight.data(), p.y);
  });
  if (!p.bias) return;
  constexpr int kWide = 16 / sizeof(T);
  if (vectors_fit<kWide>(s.out, p.y)) {
    add_bias<kWide>(stream, p);
  } else {
    add_bias<1>(stream, p);
  }
}

template <class T>
void conv2d_backward(const Stream& stream, const Conv2dBackward<T>& p) {
  const Conv2dShape& s = p.shape;
  if (s.batch == 0) return;
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (!p.grad_x && is_image_conv(s, p.x, p.grad_y)) return image_conv_backward(stream, p);
  }
  const Scratch<T> weight(stream, s.out * 9 * s.in);
  Cudnn::on(stream.device).with<T>(stream, s, [&](cudnnHandle_t handle, const Convolution& convolution) {
    if (p.grad_x) {
      pack(stream, s, p.weight, weight.data());
      convolution.backward_data(handle, stream, weight.data(), p.grad_y, p.grad_x);
    }
    if (p.grad_weight) {
      convolution.backward_weight(handle, stream, p.x, p.grad_y, weight.data());
      add_unpacked(stream, s, weight.data(), p.grad_weight);
    }
  });
  if (p.grad_bias) add_column_sums(stream, s.batch * s.out_height() * s.out_width(), s.out, p.grad_y, p.grad_bias);
}

QM_INSTANTIATE_CUDA(conv2d_forward, Conv2dForward)
QM_INSTANTIATE_CUDA(conv2d_backward, Conv2dBackward)

}  // namespace qm::cuda
