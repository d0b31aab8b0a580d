// The ground under every use of HDF5: one lock, no printing, ids that close themselves, checks that keep what failed.
// For sources of data/ alone: other folders do not see HDF5.
#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>
#include <utility>

#include "kernels/base/error.h"

namespace qm {

/// While alive, this thread may use HDF5 (not every libhdf5 is built thread-safe) and HDF5 prints nothing by itself.
class Hdf5Session {
 public:
  Hdf5Session();

 private:
  std::unique_lock<std::recursive_mutex> lock_;
};

/// Throws IoError "HDF5: <expression> failed: <HDF5's own reason>" for a negative `result`; else returns it.
hid_t check_hdf5(hid_t result, const char* expression);

/// Owns an id of any type.
class Hdf5Id {
 public:
  explicit Hdf5Id(hid_t id) : id_(id) {}
  ~Hdf5Id() { close(); }
  Hdf5Id(Hdf5Id&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Hdf5Id& operator=(Hdf5Id&& other) noexcept {
    close();
    id_ = std::exchange(other.id_, -1);
    return *this;
  }

  operator hid_t() const { return id_; }
  /// Gives up the id without closing it.
  hid_t release() { return std::exchange(id_, -1); }

 private:
  void close() {
    if (id_ >= 0) H5Idec_ref(release());
  }
  hid_t id_;
};

/// Runs `body` and puts the file's name before any IoError that comes out of it.
template <class Body>
auto naming_file(const std::string& path, Body&& body) {
  try {
    return body();
  } catch (const IoError& error) {
    throw IoError(concat(path, ": ", error.what()));
  }
}

}  // namespace qm

/// Evaluates an HDF5 call and throws IoError with its text if it fails.
#define QM_HDF5(expression) ::qm::check_hdf5((expression), #expression)
