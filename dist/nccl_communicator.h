// The NCCL back-end of Communicator: one GPU a rank. In builds with CUDA only.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "dist/communicator.h"

namespace qm {

/// A communicator over the ranks of `host`, each on a GPU of its own, `device`. Tensors on it go from GPU to GPU;
/// `host` carries all else: tensors on the CPU, bytes, barriers. Collective. Throws CommError, for one where two ranks
/// share a GPU, which NCCL refuses.
///
/// Nothing waits on the host for a GPU: an operation starts once the work queued on the tensor's current stream is
/// done, and the work queued there after wait() (or after broadcast()) starts once the operation is done. Besides
/// CommError an operation throws CudaError, where something queued before it has failed.
///
/// A Watchdog calls `report` with one line when an operation, the start and the end of NCCL included, is not done
/// `deadline` after it and all before it were done, or when NCCL says that one has failed.
std::unique_ptr<Communicator> make_nccl_communicator(Device device, std::unique_ptr<Communicator> host,
                                                     std::chrono::seconds deadline,
                                                     std::function<void(const std::string& what)> report);

}  // namespace qm
