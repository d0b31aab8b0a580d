#include "recipes/rand_augment_text.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "kernels/base/error.h"

namespace qm {
namespace {

std::string error_of(const char* text) {
  try {
    parse_rand_augment(text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(recipes, rand_augment_text_has_all_of_timms_parts) {
  EXPECT_EQ(parse_rand_augment("rand"), (RandAugmentText{}));
  EXPECT_EQ(parse_rand_augment("rand-m9-mstd0.5-inc1"),
            (RandAugmentText{.magnitude = 9, .magnitude_std = 0.5, .increasing = true}));
  EXPECT_EQ(
      parse_rand_augment("rand-n3-p0.75-mmax20-m15-mstd1e0"),
      (RandAugmentText{.magnitude = 15, .layers = 3, .probability = 0.75, .magnitude_std = 1, .magnitude_max = 20}));
  EXPECT_EQ(parse_rand_augment("rand-mstd101").magnitude_std, std::numeric_limits<double>::infinity());
  EXPECT_EQ(parse_rand_augment("rand-mstd100").magnitude_std, 100);
  EXPECT_EQ(parse_rand_augment("rand-mmax0").magnitude_max, 10);
  for (const char* set : {"weights", "3a", "3aw"}) {
    EXPECT_EQ(parse_rand_augment(std::string("rand-t") + set).set, set);
  }
}

TEST(recipes, rand_augment_text_errors_name_the_part) {
  EXPECT_EQ(error_of(""), "part '': expected 'rand'");
  EXPECT_EQ(error_of("original-mstd0.5"), "part 'original': expected 'rand'");
  EXPECT_EQ(error_of("rand-m9.5"), "part 'm9.5': expected a whole number");
  EXPECT_EQ(error_of("rand-mstd0.5x"), "part 'mstd0.5x': expected a number");
  EXPECT_EQ(error_of("rand-p1.5"), "part 'p1.5': expected 0 to 1");
  EXPECT_EQ(error_of("rand-inc"), "part 'inc': expected a whole number");
  EXPECT_EQ(error_of("rand-m9-inc0"), "part 'inc0': expected inc1, or none");
  EXPECT_EQ(error_of("rand-m9-m8"), "part 'm8': expected each part once");
  EXPECT_EQ(error_of("rand-tfoo"), "part 'tfoo': expected tweights, t3a or t3aw");
  EXPECT_EQ(error_of("rand-n1000"), "part 'n1000': expected 0 to 100");
  EXPECT_EQ(error_of("rand-n15-tweights"), "a weighted set has no operation twice in an image: expected at most n14");
  for (const char* text : {"rand-", "rand-mstdinf", "rand-x1"}) {
    EXPECT_NE(error_of(text).find("expected one of m, n, p, mstd, mmax, inc"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace qm
