#include <nccl.h>

#include "dist/libraries.h"

namespace qm::cuda {

std::vector<LibraryVersion> nccl_libraries() {
  int version = 0;
  const ncclResult_t status = ncclGetVersion(&version);
  QM_CHECK(status == ncclSuccess, CommError, "ncclGetVersion: ", ncclGetErrorString(status));
  return {{"NCCL", concat(NCCL_MAJOR, ".", NCCL_MINOR, ".", NCCL_PATCH),
           version_text(static_cast<std::size_t>(version)), ""}};
}

}  // namespace qm::cuda
