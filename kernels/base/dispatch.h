// The one line in which a contract hands checked parameters to its back-end.
#pragma once

#include <type_traits>

#include "kernels/base/device.h"
#include "kernels/base/dtype.h"
#include "kernels/base/profile.h"

namespace qm {
/// Of a contract that does not say.
template <class Args>
OpCost cost_of(const Args&) {
  return {};
}
}  // namespace qm

/// In a contract function on element type T: calls qm::cpu::op(args) on a CPU stream and qm::cuda::op(stream, args) on a
/// CUDA stream. Throws CudaError where this build has no back-end for the device, ShapeError for double on CUDA and for
/// bfloat16 on the CPU.
///
/// The call is a range of kernels/base/profile.h; a contract that defines OpCost cost_of(const Args<T>&) beside its checks says
/// what it has to move and compute.
#ifdef QM_HAVE_CUDA
#define QM_DISPATCH(op, stream, args)                                                 \
  do {                                                                                \
    const ::qm::OpRange range(stream, #op, cost_of(args));                            \
    if ((stream).device.type == ::qm::DeviceType::kCpu) QM_DISPATCH_CPU(op, args);    \
    if constexpr (std::is_same_v<T, double>) {                                        \
      ::qm::throw_cpu_only(#op);                                                      \
    } else {                                                                          \
      ::qm::cuda::make_current((stream).device);                                      \
      return ::qm::cuda::op(stream, args);                                            \
    }                                                                                 \
  } while (false)
#else
#define QM_DISPATCH(op, stream, args)                                               \
  do {                                                                              \
    const ::qm::OpRange range(stream, #op, cost_of(args));                          \
    if ((stream).device.type == ::qm::DeviceType::kCpu) QM_DISPATCH_CPU(op, args);  \
    ::qm::throw_no_backend(#op, (stream).device);                                   \
  } while (false)
#endif

#define QM_DISPATCH_CPU(op, args)                  \
  do {                                             \
    if constexpr (std::is_same_v<T, bfloat16>) {   \
      ::qm::throw_gpu_only(#op);                   \
    } else {                                       \
      return ::qm::cpu::op(args);                  \
    }                                              \
  } while (false)

/// Instantiates a contract function `void op(const Stream&, const Args<T>&)` for every type of activations.
#define QM_INSTANTIATE_CONTRACT(op, Args)              \
  template void op(const Stream&, const Args<float>&); \
  template void op(const Stream&, const Args<double>&); \
  template void op(const Stream&, const Args<bfloat16>&);

/// The same for a function on numbers that are never rounded to bfloat16.
#define QM_INSTANTIATE_REAL_CONTRACT(op, Args)         \
  template void op(const Stream&, const Args<float>&); \
  template void op(const Stream&, const Args<double>&);

/// Instantiates a CPU implementation `void op(const Args<T>&)`.
#define QM_INSTANTIATE_CPU(op, Args)    \
  template void op(const Args<float>&); \
  template void op(const Args<double>&);

/// Instantiates a CUDA implementation `void op(const Stream&, const Args<T>&)`.
#define QM_INSTANTIATE_CUDA(op, Args)                  \
  template void op(const Stream&, const Args<float>&); \
  template void op(const Stream&, const Args<bfloat16>&);
#define QM_INSTANTIATE_REAL_CUDA(op, Args) template void op(const Stream&, const Args<float>&);
