// A library as this program was compiled for it and as it runs with it. For reports.
#pragma once

#include <string>

#include "kernels/base/error.h"

namespace qm {

struct LibraryVersion {
  std::string name;
  std::string built;   ///< of the headers, "9.14.0"
  std::string loaded;  ///< of the library, likewise
  std::string note;    ///< what else the library says of itself, if anything
};

/// 91402 → "9.14.2": the number that most libraries give.
inline std::string version_text(std::size_t number) {
  return concat(number / 10000, ".", number / 100 % 100, ".", number % 100);
}

}  // namespace qm
