#include <cublasLt.h>
#include <cudnn.h>

#include "kernels/libraries.h"

namespace qm::cuda {

std::vector<LibraryVersion> libraries() {
  return {{"cuBLASLt", concat(CUBLAS_VER_MAJOR, ".", CUBLAS_VER_MINOR, ".", CUBLAS_VER_PATCH),
           version_text(cublasLtGetVersion()), ""},
          {"cuDNN", concat(CUDNN_MAJOR, ".", CUDNN_MINOR, ".", CUDNN_PATCHLEVEL), version_text(cudnnGetVersion()), ""}};
}

}  // namespace qm::cuda
