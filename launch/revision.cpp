#include "launch/revision.h"

namespace qm {

std::string source_revision() {
  return QM_REVISION;
}

}  // namespace qm
