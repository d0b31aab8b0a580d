// Which source this program was built from.
#pragma once

#include <string>

namespace qm {

/// The commit the build was configured at ("-dirty" with uncommitted changes), or the version outside a git checkout.
std::string source_revision();

}  // namespace qm
