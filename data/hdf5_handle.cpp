#include "data/hdf5_handle.h"

#include <string>

namespace qm {

namespace {

std::recursive_mutex& hdf5_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

/// Keeps the description of the innermost error, the one that says what happened.
herr_t keep_innermost(unsigned, const H5E_error2_t* error, void* reason) {
  if (error->desc != nullptr) *static_cast<std::string*>(reason) = error->desc;
  return 0;
}

}  // namespace

Hdf5Session::Hdf5Session() : lock_(hdf5_mutex()) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

hid_t check_hdf5(hid_t result, const char* expression) {
  if (result >= 0) return result;
  std::string reason = "no reason given";
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_innermost, &reason);
  throw IoError(concat("HDF5: ", expression, " failed: ", reason));
}

}  // namespace qm
