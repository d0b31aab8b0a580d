// One thread at a time in MPI.
#pragma once

#include <mutex>

namespace qm {

/// Held around every call to MPI (MPI_THREAD_SERIALIZED): besides the thread that made the Environment, the Watchdog of
/// a communicator between GPUs calls it. Whoever waits for other ranks lets go of it between looks.
inline std::timed_mutex mpi_lock;

}  // namespace qm
