#include "launch/batches_ahead.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/base/error.h"
#include "tests/support/gpu.h"
#include "tests/support/gpu_work.h"

namespace qm::test {
namespace {

constexpr std::int64_t kSide = 4;

/// Of `rows` images whose bytes and labels are all `value`.
Batch batch_of(std::uint8_t value, std::int64_t rows, std::int64_t side = kSide) {
  const std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * side * side * 3), value);
  Batch batch;
  batch.images = Tensor::from(bytes, {rows, side, side, 3});
  batch.labels = Tensor::from(std::vector<std::int32_t>(static_cast<std::size_t>(rows), value), {rows});
  return batch;
}

void expect_value(const DeviceBatch& batch, std::uint8_t value, std::int64_t rows, std::int64_t side = kSide) {
  const Batch expected = batch_of(value, rows, side);
  EXPECT_EQ(batch.images.to(Device{}).to_vector<std::uint8_t>(), expected.images.to_vector<std::uint8_t>());
  EXPECT_EQ(batch.labels.to(Device{}).to_vector<std::int32_t>(), expected.labels.to_vector<std::int32_t>());
  EXPECT_FALSE(batch.erased.defined());
}

/// Steps of two batches, 3 and 2 images, the next one put before what was taken is read.
void expect_every_step_in_order(Device device) {
  BatchesAhead batches(device, 2);
  const auto put = [&](int step) {
    batches.put(batch_of(static_cast<std::uint8_t>(2 * step), 3));
    batches.put(batch_of(static_cast<std::uint8_t>(2 * step + 1), 2));
  };
  put(0);
  const void* place = nullptr;
  for (int step = 0; step < 7; ++step) {
    const std::vector<DeviceBatch>& taken = batches.take();
    put(step + 1);
    ASSERT_EQ(taken.size(), 2u);
    expect_value(taken[0], static_cast<std::uint8_t>(2 * step), 3);
    expect_value(taken[1], static_cast<std::uint8_t>(2 * step + 1), 2);
    if (step == 0) place = taken[0].images.raw();
    EXPECT_EQ(taken[0].images.raw(), place) << "a graph reads where it read before";
  }
}

TEST(launch, batches_ahead_come_in_order_at_one_place) {
  expect_every_step_in_order(Device{});
}

TEST(gpu, batches_ahead_come_in_order_at_one_place) {
  QM_NEEDS_GPU();
  expect_every_step_in_order(kGpu);
}

TEST(launch, batches_ahead_refuse_another_shape_and_a_step_that_was_not_put) {
  BatchesAhead batches(Device{}, 1);
  EXPECT_THROW(batches.take(), Error);
  batches.put(batch_of(1, 3));
  EXPECT_THROW(batches.put(batch_of(1, 4)), ShapeError);
}

TEST(gpu, batches_ahead_are_copied_beside_the_devices_work) {
  QM_NEEDS_GPU();
  constexpr double kWork = 2;
  constexpr std::int64_t kRows = 64, kLargeSide = 224;  // large enough for pinned memory
  BatchesAhead batches(kGpu, 1);
  const GpuWork work(kWork);
  for (std::uint8_t value = 0; value < 2; ++value) {  // both places of arrival
    batches.put(batch_of(value, kRows, kLargeSide));
    batches.take();
  }
  Batch next = batch_of(7, kRows, kLargeSide);
  synchronize(current_stream(kGpu));

  const auto start = Clock::now();
  work.queue_all();
  batches.put(std::move(next));
  const double put = seconds_since(start);
  synchronize(copy_stream(kGpu));
  const double copied = seconds_since(start);
  const DeviceBatch& taken = batches.take().front();
  synchronize(current_stream(kGpu));
  EXPECT_GT(seconds_since(start), kWork / 2) << "there was too little work for this test to tell anything";
  EXPECT_LT(put, kWork / 10);
  EXPECT_LT(copied, kWork / 10);
  expect_value(taken, 7, kRows, kLargeSide);
}

}  // namespace
}  // namespace qm::test
