#include "data/libraries.h"

#include <hdf5.h>

namespace qm {

std::vector<LibraryVersion> data_libraries() {
  unsigned major = 0, minor = 0, release = 0;
  QM_CHECK(H5get_libversion(&major, &minor, &release) >= 0, IoError, "H5get_libversion failed");
  return {{"HDF5", concat(H5_VERS_MAJOR, ".", H5_VERS_MINOR, ".", H5_VERS_RELEASE),
           concat(major, ".", minor, ".", release), ""}};
}

}  // namespace qm
