// Communicator: what the processes ("ranks") of a job say to one another. Back-ends: a group of one, MPI, and NCCL for
// tensors on GPUs.
//
// Every rank calls the same operations in the same order, waits for requests included, all from the thread that made
// the Environment. All throw CommError naming the operation (and the peer, where there is one).
//
// Sums are bit-identical on all ranks, and from run to run for a given number of ranks. Sums on the CPU are taken in
// rank order, element by element, so that an array may as well be summed in parts. NCCL adds in an order of its own,
// which depends on the number of elements, on how the GPUs are connected, on NCCL's version and on its environment
// variables: where all of these stay, so do the bits, but the parts of an array sum to other roundings than the whole.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace qm {

/// An operation under way on a tensor, which nobody may touch until wait() returns.
class Request {
 public:
  virtual ~Request() = default;
  /// Afterwards the tensor holds the result, for work queued on its device's current stream. Calling it again does
  /// nothing.
  virtual void wait() = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Place among the ranks of the same host; chooses the GPU.
  virtual int local_rank() const = 0;
  /// The back-end's name, for logs.
  virtual const char* name() const = 0;

  /// tensor ← Σ over ranks, in place. float32, float64 or int64; the same shape on every rank.
  void all_reduce_sum(const Tensor& tensor) { start_all_reduce_sum(tensor)->wait(); }
  /// The same without waiting. A request destroyed without wait() leaves the tensor undefined.
  virtual std::unique_ptr<Request> start_all_reduce_sum(const Tensor& tensor) = 0;

  /// Every rank's tensor ← rank `root`'s. Any dtype; the same shape on every rank.
  virtual void broadcast(const Tensor& tensor, int root) = 0;
  /// Every rank's bytes ← rank `root`'s, resized to fit.
  virtual void broadcast_bytes(std::vector<char>& bytes, int root) = 0;
  /// Every rank's bytes, in rank order, on every rank.
  virtual std::vector<std::string> all_gather_bytes(const std::string& bytes) = 0;
  /// The largest of the ranks' values; NaN if any is NaN.
  virtual double all_reduce_max(double value) = 0;
  /// Returns once every rank has called it.
  virtual void barrier() = 0;

  /// What is queued on `stream` so far holds operations of this communicator that were recorded and are now replayed:
  /// called after each replay, on every rank, it gives them the deadline that others have by themselves. Never waits;
  /// does nothing in a back-end whose operations cannot be recorded.
  virtual void watch(const Stream& stream, const std::string& name);
};

inline void Communicator::watch(const Stream&, const std::string&) {}

/// The group of one: every operation is complete as soon as it is called.
std::unique_ptr<Communicator> make_single_communicator();

}  // namespace qm
