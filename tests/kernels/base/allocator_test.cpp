#include "kernels/base/allocator.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "kernels/base/current_op.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

// The allocator is the process's own: tests look at differences.
Allocator& cpu() {
  return allocator_for(Device{});
}

TEST(kernels, allocator_aligns_and_counts) {
  const std::size_t before = cpu().stats().allocated;
  std::vector<void*> blocks;
  std::size_t asked = 0;
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{64}, std::size_t{65}, std::size_t{1000003}}) {
    void* block = cpu().allocate(bytes);
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 64, 0u);
    std::memset(block, 1, bytes);
    blocks.push_back(block);
    asked += bytes;
  }
  const std::size_t held = cpu().stats().allocated - before;
  EXPECT_GE(held, asked);
  EXPECT_LE(held, asked + asked / 8 + blocks.size() * 64);
  for (void* block : blocks) cpu().deallocate(block);
  EXPECT_EQ(cpu().stats().allocated, before);
}

TEST(kernels, allocator_hands_a_freed_block_out_again) {
  constexpr std::size_t kBytes = 7654321;
  void* first = cpu().allocate(kBytes);
  cpu().deallocate(first);
  const std::size_t reserved = cpu().stats().reserved;
  void* second = cpu().allocate(kBytes - 1);  // the same size class
  EXPECT_EQ(second, first);
  EXPECT_EQ(cpu().stats().reserved, reserved);
  void* third = cpu().allocate(kBytes);  // the block is taken now
  EXPECT_NE(third, second);
  cpu().deallocate(second);
  cpu().deallocate(third);
}

TEST(kernels, allocator_peak_statistics) {
  constexpr std::size_t kBytes = 1 << 20;
  cpu().reset_peak();
  const MemoryStats before = cpu().stats();
  EXPECT_EQ(before.peak, before.allocated);
  void* a = cpu().allocate(kBytes);
  void* b = cpu().allocate(kBytes);
  cpu().deallocate(a);
  cpu().deallocate(b);
  EXPECT_EQ(cpu().stats().peak, before.allocated + 2 * kBytes);
  EXPECT_EQ(cpu().stats().allocated, before.allocated);
  cpu().reset_peak();
  EXPECT_EQ(cpu().stats().peak, before.allocated);
}

TEST(kernels, allocator_gives_cached_blocks_back) {
  void* block = cpu().allocate(3 << 20);
  cpu().deallocate(block);
  const MemoryStats cached = cpu().stats();
  EXPECT_GE(cached.reserved, cached.allocated + (3 << 20));
  cpu().release_cached();
  EXPECT_EQ(cpu().stats().reserved, cpu().stats().allocated);
}

TEST(kernels, allocator_serves_threads) {
  const std::size_t before = cpu().stats().allocated;
  std::vector<std::thread> threads;
  std::vector<int> clashes(4);
  for (int id = 0; id < 4; ++id) {
    threads.emplace_back([id, &clashes] {
      for (int round = 0; round < 2000; ++round) {
        auto* block = static_cast<volatile int*>(cpu().allocate(64 + 64 * static_cast<std::size_t>(round % 3)));
        *block = id;
        std::this_thread::yield();
        clashes[static_cast<std::size_t>(id)] += *block != id;
        cpu().deallocate(const_cast<int*>(block));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(clashes, std::vector<int>(4, 0));
  EXPECT_EQ(cpu().stats().allocated, before);
}

TEST(kernels, allocator_says_what_ran_out_of_memory) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer ends the program on such a request";
#endif
  constexpr std::size_t kTooMuch = std::size_t{1} << 60;
  const auto message = [] {
    try {
      cpu().deallocate(cpu().allocate(kTooMuch));
    } catch (const OutOfMemory& error) {
      return std::string(error.what());
    }
    return std::string("it was there");
  };
  const std::string size = std::to_string(kTooMuch);
  EXPECT_TRUE(message().starts_with("out of memory: " + size + " bytes on cpu, where ")) << message();
  const CurrentOp outer("linear");
  {
    const CurrentOp inner("quad_scan", true);
    EXPECT_TRUE(message().starts_with("out of memory: " + size + " bytes for quad_scan backward on cpu, ")) << message();
  }
  EXPECT_TRUE(message().starts_with("out of memory: " + size + " bytes for linear on cpu, ")) << message();
}

TEST(kernels, allocator_names_a_device_without_back_end) {
  try {
    allocator_for(Device{DeviceType::kCuda, 999});
    FAIL() << "found a thousand GPUs";
  } catch (const CudaError& error) {
    EXPECT_NE(std::string(error.what()).find("cuda:999"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace qm
