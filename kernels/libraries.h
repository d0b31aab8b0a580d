// The libraries that the kernels stand on. For reports.
#pragma once

#include <vector>

#include "kernels/base/library_version.h"

namespace qm {

/// OpenBLAS; in a build with CUDA also cuBLASLt and cuDNN.
std::vector<LibraryVersion> kernel_libraries();

namespace cpu {
std::vector<LibraryVersion> libraries();
}
namespace cuda {
std::vector<LibraryVersion> libraries();
}

}  // namespace qm
