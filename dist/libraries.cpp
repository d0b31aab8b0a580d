#include "dist/libraries.h"

#include <mpi.h>

#include "dist/mpi_check.h"

namespace qm {
namespace {

/// These two calls are allowed before MPI starts.
LibraryVersion mpi_library() {
  int version = 0, subversion = 0, length = 0;
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  check_mpi(MPI_Get_version(&version, &subversion), "MPI_Get_version");
  check_mpi(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  return {"MPI", concat(MPI_VERSION, ".", MPI_SUBVERSION), concat(version, ".", subversion), text};
}

}  // namespace

std::vector<LibraryVersion> dist_libraries() {
  std::vector<LibraryVersion> all{mpi_library()};
#ifdef QM_HAVE_CUDA
  for (const LibraryVersion& library : cuda::nccl_libraries()) all.push_back(library);
#endif
  return all;
}

}  // namespace qm
