#include "launch/doctor.h"

#include <charconv>
#include <fstream>
#include <regex>

#include "data/libraries.h"
#include "dist/libraries.h"
#include "kernels/libraries.h"

namespace qm {
namespace {

/// "580.159.04" of "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue …"
std::string nvidia_driver() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  std::getline(file, line);
  static const std::regex version(R"(\s(\d+\.\d+(\.\d+)?)\s)");
  std::smatch parts;
  return std::regex_search(line, parts, version) ? parts[1].str() : "";
}

/// 13000 → "13.0"
std::string cuda_text(int version) {
  return concat(version / 1000, ".", version % 1000 / 10);
}

std::string capability_text(const GpuInfo& gpu) {
  return concat(gpu.major, ".", gpu.minor);
}

std::string line_of(const std::string& left, const std::string& right) {
  return left + std::string(left.size() < 14 ? 14 - left.size() : 1, ' ') + right + "\n";
}

std::string driver_text(const Machine& machine) {
  const std::string version = machine.driver.empty() ? "of unknown version" : machine.driver;
  if (machine.cuda.driver > 0) return concat(version, ", for CUDA up to ", cuda_text(machine.cuda.driver));
  return machine.driver.empty() ? "none" : version;
}

std::string cuda_runtime_text(const Machine& machine) {
  const CudaVersions& cuda = machine.cuda;
  if (!machine.has_cuda_backend) return "not in this build";
  return cuda_text(cuda.runtime) + (cuda.runtime == cuda.toolkit ? "" : ", built with " + cuda_text(cuda.toolkit));
}

std::string gpu_text(const GpuInfo& gpu) {
  const char* code = gpu.code == GpuCode::kMachineCode ? "machine code in this build"
                     : gpu.code == GpuCode::kPtx       ? "PTX in this build"
                                                       : "no code in this build";
  return concat(gpu.name, ", ", gpu.memory >> 20, " MiB, compute capability ", capability_text(gpu), ", ", code);
}

std::string library_text(const LibraryVersion& library) {
  return concat(library.loaded, library.loaded == library.built ? "" : ", built with " + library.built,
                library.note.empty() ? "" : " (" + library.note + ")");
}

/// 9.14.2 → {9, 14, 2}, so that versions compare by their numbers.
std::vector<int> numbers_in(const std::string& version) {
  std::vector<int> numbers;
  const char* position = version.data();
  const char* end = position + version.size();
  while (position < end) {
    int number = 0;
    position = std::from_chars(position, end, number).ptr + 1;  // past the dot
    numbers.push_back(number);
  }
  return numbers;
}

std::string remedy_for(const std::string& name, const GpuInfo& gpu) {
  const std::string rebuild = concat("build with -DCMAKE_CUDA_ARCHITECTURES=", gpu.major, gpu.minor);
  if (gpu.code == GpuCode::kPtx) {
    return concat(name, ": no machine code for compute capability ", capability_text(gpu),
                  ", so every first start compiles: ", rebuild);
  }
  return concat(name, ": cannot run this build's code (compute capability ", capability_text(gpu), "): ", rebuild);
}

void add_cuda_remedies(const Machine& machine, std::vector<std::string>& lines) {
  const CudaVersions& cuda = machine.cuda;
  if (!machine.has_cuda_backend) {
    lines.push_back(
        "this build computes on the CPU only: for GPUs install nvcc, cuBLASLt, cuDNN and NCCL, and build with "
        "-DQM_CUDA=ON");
  } else if (cuda.driver == 0) {
    lines.push_back(concat("no NVIDIA driver: install one for CUDA ", cuda_text(cuda.runtime), " or newer"));
  } else if (cuda.driver / 1000 < cuda.runtime / 1000) {
    lines.push_back(concat("the driver knows CUDA up to ", cuda_text(cuda.driver), ", this program runs with ",
                           cuda_text(cuda.runtime), ": update the driver, or build with an older CUDA toolkit"));
  } else if (machine.gpus.empty()) {
    lines.push_back("no GPU that this process can use: see nvidia-smi and the variable CUDA_VISIBLE_DEVICES");
  }
  for (std::size_t i = 0; i < machine.gpus.size(); ++i) {
    if (machine.gpus[i].code != GpuCode::kMachineCode) {
      lines.push_back(remedy_for(concat("cuda:", i), machine.gpus[i]));
    }
  }
}

}  // namespace

Machine examine_machine() {
  Machine machine{.driver = nvidia_driver(), .cuda = cuda_versions(), .gpus = gpu_infos(), .libraries = {}};
#ifdef QM_HAVE_CUDA
  machine.has_cuda_backend = true;
#endif
  for (const auto& libraries : {kernel_libraries(), dist_libraries(), data_libraries()}) {
    machine.libraries.insert(machine.libraries.end(), libraries.begin(), libraries.end());
  }
  return machine;
}

std::string describe(const Machine& machine) {
  std::string text = line_of("driver", driver_text(machine)) + line_of("CUDA", cuda_runtime_text(machine));
  if (machine.gpus.empty()) text += line_of("GPU", "none");
  for (std::size_t i = 0; i < machine.gpus.size(); ++i) text += line_of(concat("cuda:", i), gpu_text(machine.gpus[i]));
  for (const LibraryVersion& library : machine.libraries) text += line_of(library.name, library_text(library));
  return text;
}

std::vector<std::string> remedies(const Machine& machine) {
  std::vector<std::string> lines;
  add_cuda_remedies(machine, lines);
  for (const LibraryVersion& library : machine.libraries) {
    // A newer one keeps to what an older one promised.
    if (numbers_in(library.loaded) >= numbers_in(library.built)) continue;
    lines.push_back(concat(library.name, ": ", library.loaded, " is loaded, but this program was built with ",
                           library.built, ": put the newer one first in LD_LIBRARY_PATH, or build again"));
  }
  return lines;
}

}  // namespace qm
