#include "kernels/base/philox.h"

#include <gtest/gtest.h>

#include <vector>

namespace qm {
namespace {

std::vector<std::uint32_t> words(const PhiloxBlock& block) {
  return {block.word, block.word + 4};
}

// The known-answer vectors of Random123, the authors' own implementation.
TEST(kernels, philox_known_answers) {
  EXPECT_EQ(words(philox4x32_10({{0, 0, 0, 0}}, 0, 0)),
            (std::vector<std::uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(words(philox4x32_10({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u)),
            (std::vector<std::uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(words(philox4x32_10({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0)),
            (std::vector<std::uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Every part of the address changes the words, and all of them reach the counter or the key as documented.
TEST(kernels, philox_addresses) {
  const std::uint64_t seed = 0x299f31d0a4093822ull;
  const auto at = [&](std::uint64_t key, RandomPurpose purpose, std::uint32_t major, std::uint32_t minor,
                      std::uint32_t position,
                      std::uint32_t draw) { return words(philox(key, purpose, major, minor, position, draw)); };
  const auto base = at(seed, RandomPurpose::kMix, 1, 2, 3, 4);
  EXPECT_EQ(base, words(philox4x32_10({{3, 1, 2, 0x04000004}}, 0xa4093822, 0x299f31d0)));
  EXPECT_NE(base, at(seed + 1, RandomPurpose::kMix, 1, 2, 3, 4));
  EXPECT_NE(base, at(seed + (1ull << 32), RandomPurpose::kMix, 1, 2, 3, 4));
  EXPECT_NE(base, at(seed, RandomPurpose::kGumbel, 1, 2, 3, 4));
  EXPECT_NE(base, at(seed, RandomPurpose::kMix, 2, 2, 3, 4));
  EXPECT_NE(base, at(seed, RandomPurpose::kMix, 1, 3, 3, 4));
  EXPECT_NE(base, at(seed, RandomPurpose::kMix, 1, 2, 4, 4));
  EXPECT_NE(base, at(seed, RandomPurpose::kMix, 1, 2, 3, 5));
}

TEST(kernels, philox_uniform_numbers_stay_inside_the_open_interval) {
  EXPECT_EQ(uniform_open(0), 0.5f / 8388608.0f);
  EXPECT_EQ(uniform_open(~0u), 1 - 0.5f / 8388608.0f);
  EXPECT_LT(uniform_open(~0u), 1.0f);
  EXPECT_EQ(uniform_open(0x80000000u), 0.5f + 0.5f / 8388608.0f);
  EXPECT_GT(uniform_open_double(0, 0), 0.0);
  EXPECT_LT(uniform_open_double(~0u, ~0u), 1.0);
  EXPECT_NEAR(uniform_open_double(0x80000000u, 0), 0.5, 1e-15);
  // The low word carries the 20 bits below the high one's 32.
  EXPECT_NEAR(uniform_open_double(0, ~0u), 1.0 / 4294967296.0, 1e-15);
}

}  // namespace
}  // namespace qm
