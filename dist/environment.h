// Environment: the process's membership in its job, from start to end.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "dist/attendance.h"
#include "dist/communicator.h"

namespace qm {

/// Longer than anything that a rank does while others wait for it: reading a checkpoint, or the end of its writing.
inline constexpr std::chrono::seconds kDefaultDeadline{600};

/// How a launcher made itself known to this process.
struct Launch {
  std::string variable;  ///< the environment variable that tells
  int processes = 0;     ///< how many processes it started; 0 where the variable does not say
};

/// The launcher (mpirun, srun) this process was started by, if any.
/// Throws CommError naming the variable if its value is no number.
std::optional<Launch> detect_launch();

/// The GPUs for a job's ranks, on the host that has the fewest for its ranks.
struct GpuSupply {
  int ranks = 1;  ///< of this job on that host
  int gpus = 0;   ///< that they can use

  /// Whether every rank of the job can have a GPU of its own.
  bool suffices() const { return gpus >= ranks; }
};

/// Starts MPI if a launcher started this process, and ends it in the destructor: one process needs no mpirun. Make one,
/// in main, and let it outlive every Communicator.
///
/// An exception that leaves the Environment's scope ends the whole job, since the other ranks may be waiting for this
/// one. A main that catches inside the scope calls abort() itself.
///
/// No wait for another rank lasts longer than a deadline, from the first call into MPI to the last. Where it has passed
/// in MPI's own start or end, or among the waits of the destructor, there is nobody to throw to: the process calls
/// `report`, without one prints the line, and ends the job with exit code 1.
class Environment {
 public:
  using Report = std::function<void(const std::string& what)>;

  /// Throws CommError if MPI does not start, was started before, or joined fewer processes than were launched.
  explicit Environment(std::chrono::seconds deadline = kDefaultDeadline, Report report = {});
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Place among the processes of this job on this host: the index of this rank's GPU. Ranks take the GPUs of their
  /// host in order, so each must see all of them: no --gpus-per-task.
  int local_rank() const { return local_rank_; }
  /// Processes of this job on this host.
  int local_size() const { return local_size_; }

  /// The same on every rank. Collective.
  GpuSupply gpu_supply() const;

  /// For tensors on the CPU and on `device`, this rank's GPU if all ranks compute on GPUs. Collective. An operation
  /// through MPI that takes longer than `deadline` throws CommError naming the ranks that there is no sign of. One
  /// between GPUs, for which nobody may be waiting, or by means that cannot be interrupted, makes a thread of the
  /// communicator call `report` instead, once, with a line that names operation and ranks; without `report` it prints
  /// that line and ends the job with exit code 1. Throws CommError; CudaError for a GPU in a build without CUDA.
  std::unique_ptr<Communicator> make_communicator(Device device = {}, std::chrono::seconds deadline = kDefaultDeadline,
                                                  Report report = {}) const;

  /// Whether this process is the one of its host to say why the job ends: the first to ask. In the others, whose reason
  /// is the same or follows from it, this waits for the end of the job that the first is about to bring. By any thread.
  bool has_last_word() const;
  /// Ends all processes of the job at once with this exit code; by any thread. Returns in a job of one process: there
  /// the caller returns the code itself.
  void abort(int code) const noexcept;

 private:
  [[noreturn]] void give_up(const std::string& what) const;

  std::chrono::seconds deadline_;
  Report report_;
  Attendance attendance_;
  bool uses_mpi_ = false;
  int exceptions_at_start_ = 0;
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
};

}  // namespace qm
