#include "dist/environment.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/base/error.h"
#include "tests/support/run_program.h"

namespace {

const std::vector<const char*> kLaunchVariables{"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "PMIX_RANK",
                                                "PMI_RANK"};

/// Hides every launcher from this process, and brings them back.
class WithoutLauncher {
 public:
  WithoutLauncher() {
    for (const char* variable : kLaunchVariables) {
      const char* value = std::getenv(variable);
      saved_.push_back(value ? std::optional<std::string>(value) : std::nullopt);
      unsetenv(variable);
    }
  }
  ~WithoutLauncher() {
    for (std::size_t i = 0; i < saved_.size(); ++i) {
      if (saved_[i]) {
        setenv(kLaunchVariables[i], saved_[i]->c_str(), 1);
      } else {
        unsetenv(kLaunchVariables[i]);
      }
    }
  }
  WithoutLauncher(const WithoutLauncher&) = delete;
  WithoutLauncher& operator=(const WithoutLauncher&) = delete;

 private:
  std::vector<std::optional<std::string>> saved_;
};

std::string this_program() {
  return std::filesystem::read_symlink("/proc/self/exe").string();
}

/// One disabled test of the suite mpi_ranks as a job of two.
qm::ProgramResult run_on_two_ranks(const std::string& test) {
  qm::RunOptions options;
  options.environment = {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMP_NUM_THREADS=1"};
  options.timeout_seconds = 60;
  return qm::run_program({QM_MPIEXEC, "--oversubscribe", "-np", "2", this_program(), "--gtest_also_run_disabled_tests",
                          "--gtest_catch_exceptions=1", "--gtest_filter=mpi_ranks." + test},
                         options);
}

TEST(dist, one_process_needs_no_launcher) {
  const WithoutLauncher hidden;
  EXPECT_FALSE(qm::detect_launch());
  const qm::Environment environment;
  EXPECT_EQ(environment.size(), 1);
  EXPECT_EQ(environment.rank(), 0);
  EXPECT_EQ(environment.local_rank(), 0);
  EXPECT_EQ(environment.gpu_supply().ranks, 1);
  EXPECT_EQ(environment.gpu_supply().gpus, qm::cuda_device_count());
  EXPECT_STREQ(environment.make_communicator()->name(), "single");
  EXPECT_STREQ(environment.make_communicator({qm::DeviceType::kCuda, 0})->name(), "single");
  environment.abort(3);  // returns: the caller of a single process returns the code itself
}

TEST(dist, launchers_are_recognised) {
  const WithoutLauncher hidden;
  setenv("PMIX_RANK", "0", 1);
  EXPECT_EQ(qm::detect_launch()->variable, "PMIX_RANK");
  EXPECT_EQ(qm::detect_launch()->processes, 0);
  setenv("SLURM_STEP_NUM_TASKS", "2", 1);
  EXPECT_EQ(qm::detect_launch()->processes, 2);
  setenv("OMPI_COMM_WORLD_SIZE", "16", 1);  // mpirun inside a Slurm job
  EXPECT_EQ(qm::detect_launch()->variable, "OMPI_COMM_WORLD_SIZE");
  EXPECT_EQ(qm::detect_launch()->processes, 16);
}

TEST(dist, a_launch_variable_that_is_no_number_is_named) {
  const WithoutLauncher hidden;
  for (const char* value : {"", "two", "2x", "0", "-1"}) {
    setenv("PMI_SIZE", value, 1);
    try {
      qm::detect_launch();
      FAIL() << "accepted '" << value << "'";
    } catch (const qm::CommError& error) {
      EXPECT_EQ(std::string(error.what()),
                "environment variable PMI_SIZE: expected a number of processes, got '" + std::string(value) + "'");
    }
  }
}

TEST(dist, processes_of_a_foreign_launcher_do_not_start) {
  const WithoutLauncher hidden;
  qm::RunOptions options;
  options.environment = {"SLURM_STEP_NUM_TASKS=4"};
  const auto result = qm::run_program({this_program(), "--gtest_filter=mpi_ranks.ranks_are_distinct"}, options);
  EXPECT_EQ(result.exit_code, 1) << result.describe();
  EXPECT_NE(result.out.find("SLURM_STEP_NUM_TASKS says that 4 processes were started, but MPI joined 1"),
            std::string::npos)
      << result.describe();
}

TEST(dist, the_tests_of_several_ranks_fail_with_one) {
  const WithoutLauncher hidden;
  const auto result = qm::run_program({this_program(), "--gtest_filter=mpi_ranks.*"});
  EXPECT_EQ(result.exit_code, 1) << result.describe();
  EXPECT_EQ(result.out.find("[       OK ]"), std::string::npos) << result.describe();
}

TEST(dist, abort_ends_all_ranks) {
  const auto result = run_on_two_ranks("DISABLED_one_rank_aborts");
  EXPECT_FALSE(result.timed_out) << result.describe();
  EXPECT_EQ(result.exit_code, 42) << result.describe();
}

TEST(dist, an_exception_that_leaves_the_environment_ends_all_ranks) {
  const auto result = run_on_two_ranks("DISABLED_an_exception_leaves_the_environment");
  EXPECT_FALSE(result.timed_out) << result.describe();
  EXPECT_EQ(result.exit_code, 1) << result.describe();
}

}  // namespace
