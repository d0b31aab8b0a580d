#include "kernels/libraries.h"

namespace qm {

std::vector<LibraryVersion> kernel_libraries() {
  std::vector<LibraryVersion> all = cpu::libraries();
#ifdef QM_HAVE_CUDA
  for (const LibraryVersion& library : cuda::libraries()) all.push_back(library);
#endif
  return all;
}

}  // namespace qm
