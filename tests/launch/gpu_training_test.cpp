// A training run on a GPU, where RandAugment and colour jitter are the step's and not the loader's, against the CPU.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/launch/small_project.h"
#include "tests/support/gpu.h"

namespace qm {
namespace {

TEST(gpu, training_sees_the_images_that_it_sees_on_the_cpu) {
  QM_NEEDS_GPU();
  const SmallProject project;
  const auto train = [&](const std::string& run, const std::string& device, const std::string& graph) {
    project.expect_train(
        run, {.settings = {"precision=fp32", "train.max_steps=10", graph}, .options = {"--device", device}});
    return project.losses(run);
  };
  const std::vector<double> cpu = train("cpu", "cpu", "train.graph=true");
  const std::vector<double> eager = train("eager", "cuda", "train.graph=false");
  const std::vector<double> graph = train("graph", "cuda", "train.graph=true");
  ASSERT_EQ(cpu.size(), 10u);
  ASSERT_EQ(eager.size(), 10u);
  // Other images give another loss at once; later on rounding alone does, more and more.
  for (std::size_t step = 0; step < 3; ++step) EXPECT_NEAR(eager[step], cpu[step], 1e-5 * cpu[step]) << step;
  EXPECT_EQ(graph, eager);
  EXPECT_EQ(project.hash(project.checkpoint("graph", 10)), project.hash(project.checkpoint("eager", 10)));
}

TEST(gpu, bench_data_times_what_the_gpu_does) {
  QM_NEEDS_GPU();
  const SmallProject project;
  const ProgramResult result = run_quadmamba({"bench", "data", project.recipe(), "--data", project.data(), "--threads",
                                              "2", "--seconds", "1", "--batch", "16", "--device", "cuda"});
  EXPECT_EQ(result.exit_code, 0) << result.describe();
  for (const char* part : {"flip", "read and decode whole", "copy to cuda:0", "RandAugment there", "all of it there",
                           "loader, to tensors on cuda:0"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << result.describe();
  }
}

}  // namespace
}  // namespace qm
