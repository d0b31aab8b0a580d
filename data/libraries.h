// The library that files stand on. For reports.
#pragma once

#include <vector>

#include "kernels/base/library_version.h"

namespace qm {

/// HDF5.
std::vector<LibraryVersion> data_libraries();

}  // namespace qm
