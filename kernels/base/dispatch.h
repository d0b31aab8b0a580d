// The one line in which a contract hands checked parameters to its back-end.
#pragma once

#include "kernels/base/device.h"

/// Calls qm::cpu::op(args) on a CPU stream; throws CudaError where this build has no back-end for the device.
#define QM_DISPATCH(op, stream, args)                                             \
  do {                                                                            \
    if ((stream).device.type == ::qm::DeviceType::kCpu) return ::qm::cpu::op(args); \
    ::qm::throw_no_backend(#op, (stream).device);                                 \
  } while (false)

/// Instantiates a contract function `void op(const Stream&, const Args<T>&)` for the CPU's types.
#define QM_INSTANTIATE_CONTRACT(op, Args)                    \
  template void op(const Stream&, const Args<float>&);       \
  template void op(const Stream&, const Args<double>&);

/// Instantiates a CPU implementation `void op(const Args<T>&)`.
#define QM_INSTANTIATE_CPU(op, Args)          \
  template void op(const Args<float>&);       \
  template void op(const Args<double>&);
