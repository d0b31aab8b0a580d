// HDF5 files that live in a MemoryImage, so that libhdf5 never touches a disk: it cannot meet a full one, and what it
// reads has been verified before.
#pragma once

#include "data/hdf5_handle.h"
#include "data/memory_image.h"

namespace qm {

/// An empty HDF5 file behind a user block of kGuardBytes. `image`, emptied first, must outlive the file, which is
/// complete after close_hdf5. Same calls, same bytes.
Hdf5Id create_hdf5(MemoryImage& image);

/// Opens an image for reading.
Hdf5Id open_hdf5(MemoryImage& image);

/// Writes out all that HDF5 holds back; throws IoError where dropping the id would hide a failure.
void close_hdf5(Hdf5Id file);

}  // namespace qm
