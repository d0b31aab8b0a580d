// Keys of a recipe that only a whole training run shows the effect of.
#include <gtest/gtest.h>

#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

using Strings = std::vector<std::string>;

constexpr int kEpoch = 5;  // steps

std::vector<double> losses_with(const SmallProject& project, const std::string& run, const Strings& settings,
                                int ranks = 1) {
  project.expect_train(run, {.ranks = ranks, .settings = settings});
  return project.losses(run);
}

std::string log_of(const SmallProject& project, const std::string& run) {
  const std::vector<std::uint8_t> log = bytes_of_file(project / (run + "/log.txt"));
  return {log.begin(), log.end()};
}

TEST(launch, mix_off_epoch_ends_mixing_with_that_epoch) {
  const SmallProject project;
  const Strings one{"train.max_steps=5", "mix.off_epoch=1"}, two{"train.max_steps=10", "mix.off_epoch=1"};
  const std::vector<double> off = losses_with(project, "off", two);
  const std::vector<double> never = losses_with(project, "never", {"train.max_steps=10"});
  ASSERT_EQ(off.size(), 2u * kEpoch);
  ASSERT_EQ(never.size(), off.size());
  for (int step = 0; step < kEpoch; ++step) EXPECT_EQ(off[step], never[step]) << step;
  EXPECT_NE(off[kEpoch], never[kEpoch]);

  // From there on it is the run of a recipe without mixing.
  project.expect_train("unmixed", {.settings = one});
  project.expect_train("unmixed", {.resume = true,
                                   .settings = {"train.max_steps=10", "mix.mixup=0", "mix.cutmix=0"},
                                   .options = {"--allow-change"}});
  EXPECT_EQ(project.losses("unmixed"), off);
}

TEST(launch, mix_modes_differ_in_who_shares_a_draw) {
  const SmallProject project;
  const auto losses = [&](const std::string& run, const Strings& mix, int ranks = 1) {
    Strings settings{"train.max_steps=3"};
    settings.insert(settings.end(), mix.begin(), mix.end());
    return losses_with(project, run, settings, ranks);
  };
  const std::vector<double> batch = losses("batch", {"mix.mode=batch"}), pair = losses("pair", {"mix.mode=pair"}),
                            elem = losses("elem", {"mix.mode=elem"});
  ASSERT_EQ(batch.size(), 3u);
  EXPECT_NE(batch[0], pair[0]);
  EXPECT_NE(batch[0], elem[0]);
  EXPECT_NE(pair[0], elem[0]);
  EXPECT_EQ(batch, losses("default", {}));
  EXPECT_EQ(pair, losses("groups_of_two", {"mix.group=2"}));
  for (const auto& [mode, one] : {std::pair("pair", pair), std::pair("elem", elem)}) {
    const std::vector<double> two = losses(concat(mode, "_on_two"), {concat("mix.mode=", mode)}, 2);
    ASSERT_EQ(two.size(), one.size());
    for (std::size_t step = 0; step < one.size(); ++step) EXPECT_NEAR(two[step], one[step], 1e-10) << mode << step;
  }
  // Who is never mixed looks alike in every mode.
  const std::vector<double> unmixed = losses("unmixed", {"mix.mixup=0", "mix.cutmix=0"});
  EXPECT_NE(unmixed, batch);
  for (const char* mode : {"batch", "pair", "elem"}) {
    EXPECT_EQ(losses(concat("improbable_", mode), {concat("mix.mode=", mode), "mix.probability=0"}), unmixed) << mode;
  }
}

TEST(launch, shuffle_window_is_told_and_changes_the_order) {
  const SmallProject project;
  const Strings window{"train.max_steps=2", "data.shuffle=window", "data.shuffle_window=30"};
  const std::vector<double> full = losses_with(project, "full", {"train.max_steps=2"});
  const std::vector<double> small = losses_with(project, "window", window);
  EXPECT_NE(small[0], full[0]);
  EXPECT_NE(log_of(project, "window").find("shuffled within a window of 30 images over shards in random order"),
            std::string::npos);
  EXPECT_EQ(log_of(project, "full").find("window"), std::string::npos);

  project.expect_train("large", {.settings = {"train.max_steps=1", "data.shuffle=window"}});
  EXPECT_NE(log_of(project, "large").find("a window of 120 images"), std::string::npos) << "of the 120 there are";
  const std::vector<double> two = losses_with(project, "on_two", window, 2);
  for (std::size_t step = 0; step < two.size(); ++step) EXPECT_NEAR(two[step], small[step], 1e-10) << step;
}

}  // namespace
}  // namespace qm
