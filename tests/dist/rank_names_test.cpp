#include "dist/rank_names.h"

#include <gtest/gtest.h>

namespace qm {
namespace {

TEST(dist, ranks_are_named_with_their_hosts_where_there_are_several) {
  set_hosts_of_ranks({"node4", "node4", "node5"});
  EXPECT_EQ(names_of_ranks({1}), "rank 1 on node4");
  EXPECT_EQ(names_of_ranks({0, 2}), "ranks 0 on node4, 2 on node5");
  EXPECT_EQ(name_of_rank(2), "rank 2 on node5");
  EXPECT_EQ(name_of_rank(99), "rank 99");
  EXPECT_EQ(names_of_ranks({}), "");
  set_hosts_of_ranks({"node4", "node4", "node4"});
  EXPECT_EQ(names_of_ranks({0, 2}), "ranks 0, 2");
  set_hosts_of_ranks({});
  EXPECT_EQ(name_of_rank(1), "rank 1");
}

}  // namespace
}  // namespace qm
