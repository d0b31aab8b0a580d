// Batches on their way to the device: those of the step to come are copied beside the device's work on this one's.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "autograd/tensor.h"
#include "data/loader.h"
#include "kernels/base/graph.h"

namespace qm {

/// A loader's batch on the device; undefined is what was undefined there.
struct DeviceBatch {
  Tensor images, labels, erased, pixel_ops;
};

class BatchesAhead {
 public:
  /// For steps of `count` batches each, the i-th of every step of the same shapes. From here on the loader's memory is
  /// pinned where `device` is a GPU: make the loader afterwards.
  BatchesAhead(Device device, std::size_t count);
  /// Waits for the copies that are under way.
  ~BatchesAhead();
  BatchesAhead(const BatchesAhead&) = delete;
  BatchesAhead& operator=(const BatchesAhead&) = delete;

  /// Sends the next batch of the step after the one taken: all of its batches, in order, before the next take(). Does
  /// not wait for the work queued on the device, only for the copies of two steps ago. Throws ShapeError on another
  /// shape than that batch had in the step before.
  void put(Batch batch);

  /// What is queued on the device's current stream from here on finds the step that was put last, all `count` batches
  /// of it, at the returned place, the same at every call. Does not wait.
  const std::vector<DeviceBatch>& take();
  /// Where take() brings them.
  const std::vector<DeviceBatch>& taken() const { return taken_; }

 private:
  /// The batches of one step on their way.
  struct Slot {
    explicit Slot(Device device) : copied(device), free(device) {}
    std::vector<Batch> from;  // kept until their copies are done
    std::vector<DeviceBatch> to;
    Event copied;
    Event free;  // to be written to: nothing that the device still has to do reads it
  };

  DeviceBatch empty_like(const Batch& batch) const;

  Device device_;
  std::size_t count_;
  std::array<std::unique_ptr<Slot>, 2> slots_;
  std::size_t filling_ = 0;  // the slot that put() fills
  std::vector<DeviceBatch> taken_;
};

}  // namespace qm
