// Turns MPI's status codes into CommError. Needs MPI_ERRORS_RETURN on the communicator, or MPI ends the process first.
#pragma once

#include <string_view>

namespace qm {

/// Throws CommError("MPI rank 1: <operation>: <MPI's text>") unless `status` is MPI_SUCCESS; "MPI on node5: …" before
/// MPI has started.
void check_mpi(int status, std::string_view operation);
/// The same, naming the rank at the other end.
void check_mpi(int status, std::string_view operation, int peer);

}  // namespace qm
