// The NCCL back-end of Communicator: one GPU a rank. In builds with CUDA only.
#pragma once

#include <memory>

#include "dist/communicator.h"

namespace qm {

/// A communicator over the ranks of `host`, each on a GPU of its own, `device`. Tensors on it go from GPU to GPU;
/// `host` carries all else: tensors on the CPU, bytes, barriers. Collective. Throws CommError, for one where two ranks
/// share a GPU, which NCCL refuses.
///
/// Nothing waits on the host for a GPU: an operation starts once the work queued on the tensor's current stream is
/// done, and the work queued there after wait() (or after broadcast()) starts once the operation is done. Besides
/// CommError an operation throws CudaError, where something queued before it has failed.
std::unique_ptr<Communicator> make_nccl_communicator(Device device, std::unique_ptr<Communicator> host);

}  // namespace qm
