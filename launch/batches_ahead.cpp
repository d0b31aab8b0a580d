#include "launch/batches_ahead.h"

#include <utility>

#include "kernels/base/allocator.h"
#include "kernels/memory.h"

namespace qm {
namespace {

/// Calls visit(from, to) for each tensor that `from`, a Batch or DeviceBatch, has.
template <class From, class Visit>
void visit_tensors(const From& from, const DeviceBatch& to, Visit visit) {
  for (const auto& [source, target] :
       {std::pair(&from.images, &to.images), std::pair(&from.labels, &to.labels), std::pair(&from.erased, &to.erased),
        std::pair(&from.pixel_ops, &to.pixel_ops)}) {
    if (source->defined()) visit(*source, *target);
  }
}

}  // namespace

BatchesAhead::BatchesAhead(Device device, std::size_t count) : device_(device), count_(count) {
  QM_CHECK(count >= 1, Error, "steps of no batch");
  for (auto& slot : slots_) slot = std::make_unique<Slot>(device);
  if (device.type == DeviceType::kCuda) pin_host_memory();
}

BatchesAhead::~BatchesAhead() {
  for (const auto& slot : slots_) {
    try {
      slot->copied.wait();
    } catch (const Error&) {  // a GPU that has failed says so to whoever waits for its work
    }
  }
}

DeviceBatch BatchesAhead::empty_like(const Batch& batch) const {
  const auto there = [&](const Tensor& tensor) {
    return tensor.defined() ? Tensor::empty(tensor.shape(), tensor.dtype(), device_) : Tensor();
  };
  return {there(batch.images), there(batch.labels), there(batch.erased), there(batch.pixel_ops)};
}

void BatchesAhead::put(Batch batch) {
  Slot& slot = *slots_[filling_];
  if (slot.from.size() == count_) {  // of two steps ago
    slot.copied.wait();
    slot.from.clear();
  }
  const std::size_t i = slot.from.size();
  if (taken_.size() == i) taken_.push_back(empty_like(batch));
  visit_tensors(batch, taken_[i], [&](const Tensor& from, const Tensor& to) {
    QM_CHECK(to.defined() && from.shape() == to.shape(), ShapeError, "batch ", i,
             " of a step has another shape than before");
  });
  if (slot.to.size() == i) {
    slot.to.push_back(empty_like(batch));
    slot.free.record(current_stream(device_));  // what is queued there may still use the same memory
  }
  const Stream stream = copy_stream(device_);
  slot.free.hold(stream);
  visit_tensors(batch, slot.to[i],
                [&](const Tensor& from, const Tensor& to) { copy_ahead(stream, to.raw(), from.raw(), from.bytes()); });
  slot.copied.record(stream);
  slot.from.push_back(std::move(batch));
  if (slot.from.size() == count_) filling_ = 1 - filling_;
}

const std::vector<DeviceBatch>& BatchesAhead::take() {
  Slot& slot = *slots_[1 - filling_];
  QM_CHECK(slot.from.size() == count_, Error, "no step was put since the last was taken");
  const Stream stream = current_stream(device_);
  slot.copied.hold(stream);
  for (std::size_t i = 0; i < count_; ++i) {
    visit_tensors(slot.to[i], taken_[i], [](const Tensor& from, const Tensor& to) { to.copy_from(from); });
  }
  slot.free.record(stream);
  return taken_;
}

}  // namespace qm
