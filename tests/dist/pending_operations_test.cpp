// The clock of the Watchdog, and what it says about the ranks. Its thread is tested by the suite mpi_ranks.
#include "dist/pending_operations.h"

#include <gtest/gtest.h>

#include "dist/roll_call.h"

namespace qm {
namespace {

using Clock = PendingOperations::Clock;
using std::chrono::seconds;

constexpr Clock::time_point kStart{};

PendingOperations::Done when(const bool& done) {
  return [&done] { return done; };
}

TEST(dist, an_operation_is_overdue_after_its_deadline) {
  PendingOperations pending(seconds(10));
  const bool done = false;
  EXPECT_FALSE(pending.look(kStart));
  pending.start("sum", when(done), kStart);
  EXPECT_FALSE(pending.look(kStart + seconds(9)));
  const auto overdue = pending.look(kStart + seconds(10));
  ASSERT_TRUE(overdue);
  EXPECT_EQ(overdue->name, "sum");
  EXPECT_EQ(overdue->number, 1u);
  EXPECT_EQ(pending.current(), "sum");
}

TEST(dist, an_operation_that_is_done_is_never_overdue) {
  PendingOperations pending(seconds(10));
  bool done = false;
  pending.start("sum", when(done), kStart);
  EXPECT_FALSE(pending.look(kStart + seconds(9)));
  done = true;
  EXPECT_FALSE(pending.look(kStart + seconds(100)));
  EXPECT_EQ(pending.current(), "");
  EXPECT_EQ(pending.started(), 1u);
}

TEST(dist, the_deadline_of_queued_work_begins_when_its_turn_comes) {
  PendingOperations pending(seconds(10));
  bool first = false, second = false;
  const bool third = false;
  pending.start("first", when(first), kStart);
  pending.start("second", when(second), kStart);
  pending.start("third", when(third), kStart + seconds(1));
  first = true;
  EXPECT_FALSE(pending.look(kStart + seconds(8)));
  EXPECT_FALSE(pending.look(kStart + seconds(17)));  // 9 s since the first was seen to be done
  second = true;
  EXPECT_FALSE(pending.look(kStart + seconds(17)));
  EXPECT_FALSE(pending.look(kStart + seconds(26)));
  const auto overdue = pending.look(kStart + seconds(27));
  ASSERT_TRUE(overdue);
  EXPECT_EQ(overdue->name, "third");
  EXPECT_EQ(overdue->number, 3u);
}

TEST(dist, work_that_starts_late_has_its_whole_deadline) {
  PendingOperations pending(seconds(10));
  bool first = true;
  const bool second = false;
  pending.start("first", when(first), kStart);
  EXPECT_FALSE(pending.look(kStart));
  pending.start("second", when(second), kStart + seconds(100));
  EXPECT_FALSE(pending.look(kStart + seconds(109)));
  EXPECT_TRUE(pending.look(kStart + seconds(110)));
}

TEST(dist, missing_ranks_are_named) {
  EXPECT_EQ(who_is_missing({5, 5, 4}, 5), "rank 2 has not come to it");
  EXPECT_EQ(who_is_missing({5, 3, 4, 9}, 5), "ranks 1, 2 have not come to it");
  EXPECT_EQ(who_is_missing({5, std::nullopt, std::nullopt}, 5), "no sign of ranks 1, 2");
  EXPECT_EQ(who_is_missing({5, std::nullopt, 1}, 5), "no sign of rank 1; rank 2 has not come to it");
  EXPECT_EQ(who_is_missing({5, 5, 6}, 5), "every rank has come to it");
}

}  // namespace
}  // namespace qm
