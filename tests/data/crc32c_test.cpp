#include "data/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace qm {
namespace {

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

TEST(data, crc32c_of_published_vectors) {
  EXPECT_EQ(crc32c({}), 0u);
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283u);
  // RFC 3720, B.4: 32 zeros, 32 ones, 0 … 31.
  EXPECT_EQ(crc32c(std::vector<std::uint8_t>(32, 0x00)), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::vector<std::uint8_t>(32, 0xFF)), 0x62A8AB43u);
  std::vector<std::uint8_t> rising(32);
  for (int i = 0; i < 32; ++i) rising[i] = static_cast<std::uint8_t>(i);
  EXPECT_EQ(crc32c(rising), 0x46DD794Eu);
}

TEST(data, crc32c_continues_over_any_split) {
  const auto whole = bytes_of("the quick brown fox jumps over the lazy dog");
  for (std::size_t split = 0; split <= whole.size(); ++split) {
    EXPECT_EQ(crc32c(whole.subspan(split), crc32c(whole.first(split))), crc32c(whole)) << split;
  }
}

}  // namespace
}  // namespace qm
