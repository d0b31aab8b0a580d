#include "launch/schedule.h"

#include <gtest/gtest.h>

namespace qm {
namespace {

constexpr Schedule kSchedule{.first = 1e-6, .peak = 1e-3, .last = 1e-5, .warmup_steps = 10, .total_steps = 110};

TEST(launch, schedule_warms_up_in_a_line) {
  EXPECT_DOUBLE_EQ(kSchedule.learning_rate(0), 1e-6);
  EXPECT_DOUBLE_EQ(kSchedule.learning_rate(1), 1e-6 + 0.1 * (1e-3 - 1e-6));
  EXPECT_DOUBLE_EQ(kSchedule.learning_rate(5), (1e-6 + 1e-3) / 2);
  EXPECT_DOUBLE_EQ(kSchedule.learning_rate(9), 1e-6 + 0.9 * (1e-3 - 1e-6));
}

TEST(launch, schedule_falls_along_a_cosine) {
  EXPECT_DOUBLE_EQ(kSchedule.learning_rate(10), 1e-3);
  EXPECT_NEAR(kSchedule.learning_rate(35), 1e-5 + (1e-3 - 1e-5) * (1 + 0.70710678118654752) / 2, 1e-18);  // cos(π/4)
  EXPECT_DOUBLE_EQ(kSchedule.learning_rate(60), (1e-3 + 1e-5) / 2);
  EXPECT_DOUBLE_EQ(kSchedule.learning_rate(110), 1e-5);
}

TEST(launch, schedule_changes_at_every_step) {
  for (std::int64_t step = 1; step <= 110; ++step) {
    const double before = kSchedule.learning_rate(step - 1), now = kSchedule.learning_rate(step);
    EXPECT_TRUE(step <= 10 ? now > before : now < before) << "step " << step;
  }
}

TEST(launch, schedule_without_warm_up_starts_at_the_peak) {
  const Schedule schedule{.first = 1e-6, .peak = 1e-3, .last = 0, .warmup_steps = 0, .total_steps = 100};
  EXPECT_DOUBLE_EQ(schedule.learning_rate(0), 1e-3);
  EXPECT_NEAR(schedule.learning_rate(100), 0, 1e-18);
}

TEST(launch, schedule_of_warm_up_alone_ends_at_the_peak) {
  const Schedule schedule{.first = 0, .peak = 1e-3, .last = 0, .warmup_steps = 100, .total_steps = 100};
  EXPECT_DOUBLE_EQ(schedule.learning_rate(99), 0.99e-3);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(100), 1e-3);
}

}  // namespace
}  // namespace qm
