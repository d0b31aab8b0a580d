// Training runs on GPUs: against the CPU, where RandAugment and colour jitter are the loader's and not the step's; and
// what becomes of a job whose GPUs wait for a rank that is gone.
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

/// Two ranks on GPUs, of which rank 1 meets with `fault` before its eighth step, when rank 0 has agreed to that step.
/// Expects that the job ends within the deadline of 8 s and what it takes to start, and says `what`.
void expect_job_ends(const SmallProject& project, const std::string& fault, bool graph, const std::string& what) {
  SCOPED_TRACE(concat(fault, graph ? " as a graph" : " eagerly"));
  const TrainCall call{.ranks = 2,
                       .settings = {"precision=fp32", "eval.every_epochs=0", concat("train.graph=", graph ? "true" : "false")},
                       .options = {"--device", "cuda", "--deadline=8", "--fault=" + fault + "@step:8,rank=1"}};
  const ProgramResult result = project.train(concat(fault, graph), call);
  EXPECT_FALSE(result.succeeded() || result.timed_out) << result.describe();
  EXPECT_LT(result.seconds, 60) << result.describe();
  EXPECT_NE(result.error.find(what), std::string::npos) << result.describe();
}

TEST(gpu, a_rank_that_dies_or_freezes_between_two_gpus_ends_the_job) {
  if (cuda_device_count() < 2) GTEST_SKIP() << "needs two GPUs";
  const SmallProject project;
  // Of the GPUs' exchange or of the agreement on the next step, whichever deadline comes first.
  expect_job_ends(project, "stop", true, "not done after 8 s; no sign of rank 1");
  expect_job_ends(project, "stop", false, "not done after 8 s; no sign of rank 1");
  expect_job_ends(project, "kill", true, "rank 1");
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
