#include "dist/mpi_check.h"

#include <mpi.h>

#include <string>

#include "dist/rank_names.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

std::string status_text(int status) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(status, text, &length) != MPI_SUCCESS) return concat("error ", status);
  return std::string(text, static_cast<std::size_t>(length));
}

/// Before MPI has started, to ask it for the rank would end the process.
std::string own_name() {
  int started = 0, rank = 0;
  const bool has_rank =
      MPI_Initialized(&started) == MPI_SUCCESS && started && MPI_Comm_rank(MPI_COMM_WORLD, &rank) == MPI_SUCCESS;
  return has_rank ? name_of_rank(rank) : "on " + name_of_host();
}

}  // namespace

void check_mpi(int status, std::string_view operation) {
  QM_CHECK(status == MPI_SUCCESS, CommError, "MPI ", own_name(), ": ", operation, ": ", status_text(status));
}

void check_mpi(int status, std::string_view operation, int peer) {
  QM_CHECK(status == MPI_SUCCESS, CommError, "MPI ", own_name(), ": ", operation, " from ", name_of_rank(peer), ": ",
           status_text(status));
}

}  // namespace qm
