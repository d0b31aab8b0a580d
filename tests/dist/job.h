// The job that tests of several ranks run in, and numbers whose sum over its ranks is known.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "dist/environment.h"
#include "kernels/base/philox.h"

namespace qm::test {

/// The process's Environment, which MPI allows once.
inline const Environment& environment() {
  static const Environment environment;
  return environment;
}

/// All ranks, over MPI. Throws CommError where there is only one.
inline Communicator& world() {
  static const std::unique_ptr<Communicator> communicator = environment().make_communicator();
  QM_CHECK(communicator->size() > 1, CommError, "the mpi_ranks tests need several ranks: run them under mpirun");
  return *communicator;
}

/// Values whose float sum depends on the order of additions; the same for a (rank, round, index) everywhere.
template <class T>
std::vector<T> values_of(int rank, int round, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto random = philox(7, RandomPurpose::kSynthetic, static_cast<std::uint32_t>(round),
                               static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(i));
    const double spread = std::ldexp(1.0, static_cast<int>(random.word[1] % 40));
    values[i] = static_cast<T>((uniform_open(random.word[0]) - 0.5) * spread);
  }
  return values;
}

/// The sum over ranks, in rank order.
template <class T>
std::vector<T> expected_sum(int round, std::int64_t count) {
  std::vector<T> sum = values_of<T>(0, round, count);
  for (int rank = 1; rank < world().size(); ++rank) {
    const std::vector<T> values = values_of<T>(rank, round, count);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
  }
  return sum;
}

template <class T>
Tensor own_tensor(int round, std::int64_t count) {
  return Tensor::from(values_of<T>(world().rank(), round, count), {count});
}

}  // namespace qm::test
