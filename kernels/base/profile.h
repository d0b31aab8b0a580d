// Where the time goes: every contract call as a named range, timed on its device while a Profile is alive.
//
// Ranges are NVTX ranges too, which Nsight shows.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/device.h"

namespace qm {

/// What an operation has to move and compute at the least: every operand read or written once.
struct OpCost {
  double bytes = 0;
  double flops = 0;  ///< of matrix products; a multiply-add counts two
};

/// One call of an operation.
struct OpCall {
  std::string name;
  double seconds = 0;
  OpCost cost;
};

/// The calls of one operation.
struct OpTime {
  std::string name;
  std::int64_t calls = 0;
  double seconds = 0;
  OpCost cost;
};

/// While alive, OpRanges of this process are timed. One at a time; not while a graph is captured.
class Profile {
 public:
  Profile();
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  /// Waits for the device and lists what ran since construction or reset.
  std::vector<OpCall> calls() const;
  /// The same by operation, in the order of the first calls.
  std::vector<OpTime> times() const;
  /// Forgets what ran so far.
  void reset();

 private:
  friend class OpRange;
  struct Ranges;
  std::unique_ptr<Ranges> ranges_;
};

/// One call of an operation, from construction to destruction. `name` is a literal.
class OpRange {
 public:
  OpRange(const Stream& stream, const char* name, OpCost cost = {});
  ~OpRange();
  OpRange(const OpRange&) = delete;
  OpRange& operator=(const OpRange&) = delete;

 private:
  Stream stream_;
  std::int64_t index_ = -1;  ///< in the Profile's list; −1 where nobody asks
};

/// Between these a profiler that waits for them records (nsys profile --capture-range=cudaProfilerApi). Both wait for the
/// device first. Throws Error where `device` is no GPU.
void start_profiler(Device device);
void stop_profiler(Device device);

namespace cuda {
void start_profiler(const Stream& stream);
void stop_profiler(const Stream& stream);
/// Marks on a stream between which time is measured.
void* record_mark(const Stream& stream);
double seconds_between(void* first, void* last);
void destroy_mark(void* mark) noexcept;
void push_range(const char* name) noexcept;
void pop_range() noexcept;
}  // namespace cuda

}  // namespace qm
