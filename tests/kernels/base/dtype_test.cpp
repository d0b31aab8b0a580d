#include "kernels/base/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace qm {
namespace {

std::uint16_t rounded(std::uint32_t float_bits) {
  return bfloat16(std::bit_cast<float>(float_bits)).bits;
}

TEST(kernels, bfloat16_rounds_to_nearest_and_ties_to_even) {
  EXPECT_EQ(rounded(0x3f800000u), 0x3f80);  // 1 exactly
  EXPECT_EQ(rounded(0x3f807fffu), 0x3f80);  // just below half way
  EXPECT_EQ(rounded(0x3f808000u), 0x3f80);  // half way, even below
  EXPECT_EQ(rounded(0x3f808001u), 0x3f81);  // just above
  EXPECT_EQ(rounded(0x3f818000u), 0x3f82);  // half way, even above
  EXPECT_EQ(rounded(0x3f818001u), 0x3f82);
  EXPECT_EQ(rounded(0xbf818000u), 0xbf82);  // the sign changes nothing
  EXPECT_EQ(rounded(0x3fffffffu), 0x4000);  // a carry into the exponent
}

TEST(kernels, bfloat16_special_values) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(bfloat16(kInfinity).bits, 0x7f80);
  EXPECT_EQ(bfloat16(-kInfinity).bits, 0xff80);
  EXPECT_EQ(bfloat16(0.0f).bits, 0x0000);
  EXPECT_EQ(bfloat16(-0.0f).bits, 0x8000);
  EXPECT_EQ(bfloat16(std::numeric_limits<float>::max()).bits, 0x7f80);  // rounds up to infinity
  EXPECT_EQ(rounded(0x00000001u), 0x0000);                              // the smallest subnormal
  // A NaN stays one, also where its payload lies in the half that is dropped.
  for (const std::uint32_t nan : {0x7fc00000u, 0x7f800001u, 0xffffffffu, 0xff80ffffu}) {
    EXPECT_TRUE(std::isnan(static_cast<float>(bfloat16(std::bit_cast<float>(nan))))) << std::hex << nan;
  }
}

TEST(kernels, bfloat16_every_value_survives_a_round_trip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    bfloat16 value;
    value.bits = static_cast<std::uint16_t>(bits);
    const float wide = static_cast<float>(value);
    if (std::isnan(wide)) continue;
    ASSERT_EQ(bfloat16(wide).bits, bits);
  }
}

TEST(kernels, dtype_names_and_sizes) {
  EXPECT_EQ(size_of(DType::kFloat64), 8u);
  EXPECT_EQ(size_of(DType::kFloat32), 4u);
  EXPECT_EQ(size_of(DType::kBFloat16), 2u);
  EXPECT_EQ(size_of(DType::kUInt8), 1u);
  EXPECT_EQ(size_of(DType::kInt32), 4u);
  EXPECT_EQ(size_of(DType::kInt64), 8u);
  EXPECT_EQ(name_of(dtype_of_v<bfloat16>), "bfloat16");
}

TEST(kernels, dtype_visit_names_the_caller) {
  EXPECT_EQ(visit_real(DType::kFloat32, "here", []<class T>() { return sizeof(T); }), 4u);
  EXPECT_EQ(visit_real(DType::kFloat64, "here", []<class T>() { return sizeof(T); }), 8u);
  try {
    visit_real(DType::kInt32, "here", []<class T>() { return sizeof(T); });
    FAIL() << "computed in int32";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "here: expected float32 or float64, got int32");
  }
}

}  // namespace
}  // namespace qm
