// The libraries that ranks talk through. For reports.
#pragma once

#include <vector>

#include "kernels/base/library_version.h"

namespace qm {

/// MPI, by the version of the standard; in a build with CUDA also NCCL.
std::vector<LibraryVersion> dist_libraries();

namespace cuda {
std::vector<LibraryVersion> nccl_libraries();
}

}  // namespace qm
