// bench data and data-grid, on a small project.
#include <gtest/gtest.h>

#include <fstream>

#include "data/image.h"
#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

TEST(launch, data_grid_draws_the_samples_of_a_step) {
  const SmallProject project;
  const auto draw = [&](const char* file, const char* step) {
    const ProgramResult result = run_quadmamba({"data-grid", project.recipe(), "--data", project.data(), "--output",
                                                project / file, "--count", "6", "--columns", "4", "--step", step});
    EXPECT_EQ(result.exit_code, 0) << result.describe();
    return bytes_of_file(project / file);
  };
  const auto first = draw("a.png", "0");
  const Image sheet = decode_image(first);
  EXPECT_EQ(sheet.height % 2, 0);  // two rows of tiles
  EXPECT_EQ(sheet.width % 4, 0);
  EXPECT_EQ(draw("b.png", "0"), first);
  EXPECT_NE(draw("c.png", "7"), first);
}

TEST(launch, bench_ops_prints_the_operations_of_a_step) {
  SmallProject project;
  const std::vector<std::string> arguments = {"bench", "ops", project.recipe(), "--device", "cpu", "--steps", "2"};
  const ProgramResult table = run_quadmamba(arguments);
  EXPECT_EQ(table.exit_code, 0) << table.describe();
  for (const char* operation : {"quad_scan_forward", "cross_scan_backward", "linear_backward", "adamw_step"}) {
    EXPECT_NE(table.out.find(operation), std::string::npos) << table.describe();
  }
  std::vector<std::string> as_json = arguments;
  as_json.push_back("--json");
  const ProgramResult json = run_quadmamba(as_json);
  EXPECT_EQ(json.exit_code, 0) << json.describe();
  EXPECT_NE(json.out.find("{\"op\": \"adamw_step\", \"calls\": 1.0,"), std::string::npos) << json.describe();
}

TEST(launch, bench_data_prints_every_part) {
  const SmallProject project;
  const ProgramResult result = run_quadmamba({"bench", "data", project.recipe(), "--data", project.data(), "--threads",
                                              "2", "--seconds", "1", "--batch", "16", "--device", "cpu"});
  EXPECT_EQ(result.exit_code, 0) << result.describe();
  for (const char* part : {"read", "decode the crop", "resize", "augment", "all of these", "read and decode whole",
                           "loader, to tensors on cpu"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << result.describe();
  }
  expect_refused(run_quadmamba({"bench", "data", project.recipe(), "--data", project.data(), "--batch", "121"}),
                 {"--batch 121", project.data(), "120 images"});
  const ProgramResult other = run_quadmamba({"bench", "nets", project.recipe(), "--data", project.data()});
  EXPECT_EQ(other.exit_code, 2) << other.describe();
}

TEST(launch, bench_data_names_a_damaged_sample) {
  const SmallProject project;
  const std::string shard = project.data() + "/train-00001-of-00002.h5";
  std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
  ASSERT_TRUE(file) << shard;
  file.seekg(0, std::ios::end);
  const std::streamoff size = file.tellg();
  for (std::streamoff at = size / 3; at < size / 2; at += 64) file.seekp(at).write("ZZZZ", 4);
  file.close();
  expect_refused(run_quadmamba({"bench", "data", project.recipe(), "--data", project.data(), "--threads", "2",
                                "--seconds", "5", "--batch", "8", "--device", "cpu"}),
                 {shard});
}

}  // namespace
}  // namespace qm
