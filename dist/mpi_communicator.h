// The MPI back-end of Communicator. Tensors on the CPU.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "dist/communicator.h"

namespace qm {

/// A communicator over all processes of the job, with a channel of its own. Collective. MPI must be running
/// (Environment), whose deadline it is made within, and must still be when the communicator is destroyed. An operation
/// that is not done after `deadline` throws CommError naming it and the ranks that there is no sign of; `report`, where
/// there is one, is called with that line first.
std::unique_ptr<Communicator> make_mpi_communicator(int local_rank, std::chrono::seconds deadline,
                                                    std::function<void(const std::string& what)> report = {});

}  // namespace qm
