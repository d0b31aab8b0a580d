#include "kernels/memory.h"

#include "kernels/cuda/vector.cuh"

namespace qm::cuda {
namespace {

template <class To, class From>
__device__ __forceinline__ To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_same_v<To, bfloat16>) {
    return from_real<bfloat16>(static_cast<float>(value));
  } else if constexpr (std::is_same_v<From, bfloat16>) {
    return static_cast<To>(to_real(value));
  } else {
    return static_cast<To>(value);
  }
}

// y[i] = (To) x[i]. A thread an element: x, y (count).
template <class From, class To>
__global__ void cast_kernel(std::int64_t count, const From* x, To* y) {
  const std::int64_t i = global_thread();
  if (i < count) y[i] = convert<To>(x[i]);
}

// y[i] += x[i]. N elements a thread: x, y (count).
template <int N, class T>
__global__ void add_inplace_kernel(std::int64_t count, const T* x, T* y) {
  const std::int64_t i = global_thread() * N;
  if (i >= count) return;
  if constexpr (N == 1) {
    y[i] = from_real<T>(to_real(y[i]) + to_real(x[i]));
  } else {
    Real<T> sum[N], added[N];
    load_vector<N>(y + i, sum);
    load_vector<N>(x + i, added);
    for (int k = 0; k < N; ++k) sum[k] += added[k];
    store_vector<N>(sum, y + i);
  }
}

// y[i] = value. A thread an element: y (count).
template <class T>
__global__ void fill_kernel(std::int64_t count, T value, T* y) {
  const std::int64_t i = global_thread();
  if (i < count) y[i] = value;
}

template <class From, class To>
void cast_typed(const Stream& stream, const void* x, void* y, std::int64_t count) {
  cast_kernel<<<blocks_for(count), kBlock, 0, native(stream)>>>(count, static_cast<const From*>(x),
                                                                static_cast<To*>(y));
  check_launch("cast");
}

template <class From>
void cast_from(const Stream& stream, const void* x, DType to, void* y, std::int64_t count) {
  switch (to) {
    case DType::kFloat32: return cast_typed<From, float>(stream, x, y, count);
    case DType::kFloat64: return cast_typed<From, double>(stream, x, y, count);
    case DType::kBFloat16: return cast_typed<From, bfloat16>(stream, x, y, count);
    default: throw ShapeError(concat("cast: cannot convert to ", name_of(to)));
  }
}

bool is_pinned(const void* host) {
  cudaPointerAttributes attributes{};
  QM_CUDA_CHECK(cudaPointerGetAttributes(&attributes, host));
  return attributes.type == cudaMemoryTypeHost;
}

}  // namespace

void copy_bytes(const Stream& stream, void* to, Device to_device, const void* from, Device from_device,
                std::size_t bytes) {
  if (bytes == 0) return;
  const bool between_gpus = to_device.type == from_device.type && to_device != from_device;
  // Streams of different GPUs do not wait for one another.
  if (between_gpus) wait_for(thread_stream(from_device));
  make_current(stream.device);
  const bool from_cpu = from_device.type == DeviceType::kCpu, to_cpu = to_device.type == DeviceType::kCpu;
  // The call would wait itself where memory is not pinned, but with the driver's lock held: a watchdog could not ask
  // then what has become of a queued exchange with a rank that is gone.
  if (to_cpu) wait_for(stream);
  // Memory that is not pinned is staged before the call returns, so the caller may change it at once.
  QM_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native(stream)));
  if (between_gpus || to_cpu || (from_cpu && is_pinned(from))) wait_for(stream);
}

void copy_ahead(const Stream& stream, void* to, const void* from, std::size_t bytes) {
  QM_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, native(stream)));
}

void fill(const Stream& stream, DType dtype, double value, void* y, std::int64_t count) {
  if (count == 0) return;
  visit_real(dtype, "fill", [&]<class T>() {
    fill_kernel<<<blocks_for(count), kBlock, 0, native(stream)>>>(count, static_cast<T>(value), static_cast<T*>(y));
  });
  check_launch("fill");
}

void zero_bytes(const Stream& stream, void* data, std::size_t bytes) {
  if (bytes > 0) QM_CUDA_CHECK(cudaMemsetAsync(data, 0, bytes, native(stream)));
}

void cast(const Stream& stream, DType from, const void* x, DType to, void* y, std::int64_t count) {
  if (count == 0) return;
  switch (from) {
    case DType::kFloat32: return cast_from<float>(stream, x, to, y, count);
    case DType::kFloat64: return cast_from<double>(stream, x, to, y, count);
    case DType::kBFloat16: return cast_from<bfloat16>(stream, x, to, y, count);
    case DType::kUInt8: return cast_from<std::uint8_t>(stream, x, to, y, count);
    default: throw ShapeError(concat("cast: cannot convert from ", name_of(from)));
  }
}

template <class T>
void add_inplace(const Stream& stream, const T* x, T* y, std::int64_t count) {
  if (count == 0) return;
  const auto launch = [&]<int N>(std::integral_constant<int, N>) {
    add_inplace_kernel<N><<<blocks_for(count / N), kBlock, 0, native(stream)>>>(count, x, y);
    check_launch("add_inplace");
  };
  if constexpr (!std::is_same_v<T, double>) {
    constexpr int kWide = 16 / sizeof(T);
    if (vectors_fit<kWide>(count, x, y)) return launch(std::integral_constant<int, kWide>());
  }
  launch(std::integral_constant<int, 1>());
}

template void add_inplace(const Stream&, const float*, float*, std::int64_t);
template void add_inplace(const Stream&, const double*, double*, std::int64_t);
template void add_inplace(const Stream&, const bfloat16*, bfloat16*, std::int64_t);

}  // namespace qm::cuda
