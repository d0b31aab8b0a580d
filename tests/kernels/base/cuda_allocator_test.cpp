#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "kernels/base/allocator.h"
#include "tests/support/gpu.h"

namespace qm::test {
namespace {

Allocator& gpu() { return allocator_for(kGpu); }

TEST(gpu, allocator_hands_a_freed_block_out_again_at_once) {
  QM_NEEDS_GPU();
  void* first = gpu().allocate(7654321);
  gpu().deallocate(first);
  const std::size_t reserved = gpu().stats().reserved;
  void* second = gpu().allocate(7654320);
  EXPECT_EQ(second, first);
  EXPECT_EQ(gpu().stats().reserved, reserved);
  gpu().deallocate(second);
}

// Another thread's stream may run ahead of the one that the block was freed on.
TEST(gpu, allocator_keeps_streams_apart) {
  QM_NEEDS_GPU();
  void* mine = gpu().allocate(1 << 22);
  gpu().deallocate(mine);
  void* theirs = nullptr;
  void* stream = nullptr;
  std::thread([&] {
    stream = current_stream(kGpu).handle;
    theirs = gpu().allocate(1 << 22);
    gpu().deallocate(theirs);
  }).join();
  EXPECT_NE(stream, current_stream(kGpu).handle);
  EXPECT_NE(theirs, mine);
  void* again = gpu().allocate(1 << 22);
  EXPECT_EQ(again, mine);
  gpu().deallocate(again);
}

TEST(gpu, allocator_peak_statistics) {
  QM_NEEDS_GPU();
  gpu().reset_peak();
  const MemoryStats before = gpu().stats();
  gpu().deallocate(gpu().allocate(1 << 20));
  EXPECT_EQ(gpu().stats().peak, before.allocated + (1 << 20));
  EXPECT_EQ(gpu().stats().allocated, before.allocated);
}

TEST(gpu, allocator_releases_its_cache_before_it_gives_up) {
  QM_NEEDS_GPU();
  void* cached = gpu().allocate(std::size_t{1} << 30);
  gpu().deallocate(cached);
  try {
    gpu().deallocate(gpu().allocate(std::size_t{1} << 45));
    FAIL() << "got 32 tebibytes";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("35184372088832 bytes on cuda:0"), std::string::npos) << error.what();
  }
  EXPECT_EQ(gpu().stats().reserved, gpu().stats().allocated);
  const Tensor works = Tensor::zeros({1000}, DType::kFloat32, kGpu);  // the failure is not met again by the next call
  EXPECT_EQ(works.to_vector<float>(), std::vector<float>(1000, 0.0f));
}

}  // namespace
}  // namespace qm::test
