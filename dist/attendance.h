// Attendance: which processes of the job are there on this host, told without MPI: before it has started, and once it
// ends.
#pragma once

#include <string>

namespace qm {

/// Speaks by files in the folder that the launcher makes for the job on each host and removes at its end
/// (PMIX_SERVER_TMPDIR, of mpirun and srun --mpi=pmix). Without such a folder it knows nothing.
class Attendance {
 public:
  /// This process, rank `rank` of `size`, of which `local_size` are on this host; each −1 where the launcher has not
  /// said.
  Attendance(int rank, int size, int local_size);

  /// "rank 2 on node5", "a process on node5" where the launcher has not said.
  std::string name() const;
  /// Leaves a sign of life of this rank.
  void sign() const;
  /// Whose last sign of life is more than a few seconds old, or never came: "no sign of rank 2", "no sign of 2 of the 8
  /// processes of this host", or "every process of this host gives signs of life".
  std::string silent() const;
  /// Whether this is the first process of the job on this host to ask. Also where nobody can know.
  bool is_first() const;

 private:
  std::string file_of(int rank) const;

  int rank_, size_, local_size_;
  std::string folder_;  ///< "" if there is none
};

}  // namespace qm
