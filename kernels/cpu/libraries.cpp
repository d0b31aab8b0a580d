#include "kernels/libraries.h"

#include <cblas.h>

#include <sstream>

namespace qm::cpu {
namespace {

/// " OpenBLAS 0.3.21 USE_OPENMP Haswell …" → the version, and how it was built.
struct Config {
  std::string name, version, details;

  explicit Config(const char* text) {
    std::istringstream words(text);
    words >> name >> version >> std::ws;
    std::getline(words, details);
  }
};

}  // namespace

std::vector<LibraryVersion> libraries() {
  const Config built(OPENBLAS_VERSION), loaded(openblas_get_config());
  return {{"OpenBLAS", built.version, loaded.version, loaded.details}};
}

}  // namespace qm::cpu
