// What `quadmamba doctor` looks at: the machine, the libraries, and whether they fit this program.
#pragma once

#include <string>
#include <vector>

#include "kernels/base/gpu_info.h"
#include "kernels/base/library_version.h"

namespace qm {

struct Machine {
  bool has_cuda_backend = false;  ///< whether this build has one
  std::string driver;             ///< version of the NVIDIA driver; empty where there is none
  CudaVersions cuda;
  std::vector<GpuInfo> gpus;
  std::vector<LibraryVersion> libraries;
};

Machine examine_machine();

/// One line each for driver, CUDA, every GPU and every library.
std::string describe(const Machine& machine);

/// What is missing or does not fit, each on one line with its remedy.
std::vector<std::string> remedies(const Machine& machine);

}  // namespace qm
