#include "data/memory_image.h"

#include <gtest/gtest.h>

#include <vector>

namespace qm {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes read(const MemoryImage& image, std::uint64_t offset, std::size_t count) {
  Bytes bytes(count, 0xAA);
  image.read(offset, bytes);
  return bytes;
}

TEST(data, memory_image_spans_pages_and_holes) {
  constexpr std::uint64_t kFar = std::uint64_t{1} << 40;  // a terabyte takes no memory
  MemoryImage image;
  Bytes long_run(1000000);
  for (std::size_t i = 0; i < long_run.size(); ++i) long_run[i] = static_cast<std::uint8_t>(i % 251);
  image.write(kFar, long_run);
  EXPECT_EQ(image.size(), kFar + long_run.size());
  EXPECT_EQ(read(image, kFar, long_run.size()), long_run);
  EXPECT_EQ(read(image, kFar - 2, 4), (Bytes{0, 0, 0, 1}));
  EXPECT_EQ(read(image, image.size(), 2), (Bytes{0, 0}));
}

TEST(data, memory_image_forgets_what_is_cut_off) {
  MemoryImage image;
  image.write(0, Bytes(600000, 7));
  image.resize(3);
  image.resize(600000);
  EXPECT_EQ(image.size(), 600000u);
  EXPECT_EQ(read(image, 1, 4), (Bytes{7, 7, 0, 0}));
  EXPECT_EQ(read(image, 599999, 1), Bytes{0});
}

}  // namespace
}  // namespace qm
