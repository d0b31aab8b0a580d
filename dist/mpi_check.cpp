#include "dist/mpi_check.h"

#include <mpi.h>

#include <string>

#include "kernels/base/error.h"

namespace qm {
namespace {

std::string status_text(int status) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(status, text, &length) != MPI_SUCCESS) return concat("error ", status);
  return std::string(text, static_cast<std::size_t>(length));
}

std::string rank_text() {
  int rank = 0;
  return MPI_Comm_rank(MPI_COMM_WORLD, &rank) == MPI_SUCCESS ? std::to_string(rank) : "?";
}

}  // namespace

void check_mpi(int status, std::string_view operation) {
  QM_CHECK(status == MPI_SUCCESS, CommError, "MPI rank ", rank_text(), ": ", operation, ": ", status_text(status));
}

void check_mpi(int status, std::string_view operation, int peer) {
  QM_CHECK(status == MPI_SUCCESS, CommError, "MPI rank ", rank_text(), ": ", operation, " from rank ", peer, ": ",
           status_text(status));
}

}  // namespace qm
