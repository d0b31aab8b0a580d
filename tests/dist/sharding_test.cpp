#include "dist/sharding.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "kernels/base/error.h"

namespace {

using qm::Share;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const qm::ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(dist, shares_are_contiguous_and_equal) {
  EXPECT_EQ(qm::share_of(24, 0, 3), (Share{0, 8}));
  EXPECT_EQ(qm::share_of(24, 1, 3), (Share{8, 8}));
  EXPECT_EQ(qm::share_of(24, 2, 3, 2), (Share{16, 8}));
  EXPECT_EQ(qm::share_of(7, 0, 1), (Share{0, 7}));
}

TEST(dist, batches_that_ranks_cannot_share) {
  EXPECT_EQ(error_of([] { qm::share_of(24, 0, 5); }), "global batch 24 cannot be shared by 5 ranks");
  EXPECT_EQ(error_of([] { qm::share_of(2, 0, 4); }), "global batch 2 cannot be shared by 4 ranks");
  EXPECT_EQ(error_of([] { qm::share_of(6, 0, 2, 2); }), "global batch 6 cannot be shared by 2 ranks in multiples of 2");
}

TEST(dist, micro_batches_cover_the_share) {
  EXPECT_EQ(qm::micro_batches_of({8, 8}, 4), (std::vector<Share>{{8, 4}, {12, 4}}));
  EXPECT_EQ(qm::micro_batches_of({8, 8}, 8, 2), (std::vector<Share>{{8, 8}}));
  EXPECT_EQ(qm::micro_batches_of({8, 8}, 0), (std::vector<Share>{{8, 8}}));
}

TEST(dist, micro_batches_that_do_not_fit) {
  EXPECT_EQ(error_of([] {
              qm::micro_batches_of({0, 12}, 5);
            }),
            "a rank's share of 12 samples cannot be split into micro-batches of 5");
  EXPECT_EQ(error_of([] {
              qm::micro_batches_of({0, 12}, 24);
            }),
            "a rank's share of 12 samples cannot be split into micro-batches of 24");
  EXPECT_EQ(error_of([] {
              qm::micro_batches_of({0, 12}, 3, 2);
            }),
            "a rank's share of 12 samples cannot be split into micro-batches of 3 in multiples of 2");
}

}  // namespace
