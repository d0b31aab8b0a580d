#include "tests/support/run_program.h"

#include <gtest/gtest.h>

namespace qm {
namespace {

TEST(support, run_program_keeps_output_exit_code_signal_and_environment) {
  const ProgramResult result = run_program({"sh", "-c", "echo out $QM_WORD; pwd; echo err >&2; cat; exit 7"},
                                           {.environment = {"QM_WORD=word"}, .timeout_seconds = 60, .folder = "/"});
  EXPECT_EQ(result.out, "out word\n/\n");
  EXPECT_EQ(result.error, "err\n");
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_EQ(run_program({"sh", "-c", "kill -9 $$"}).signal, 9);
  EXPECT_EQ(run_program({"/no/such/program"}).exit_code, 127);
  const ProgramResult endless =
      run_program({"sh", "-c", "sleep 100 & sleep 100"}, {.environment = {}, .timeout_seconds = 0.2, .folder = ""});
  EXPECT_TRUE(endless.timed_out);
  EXPECT_FALSE(endless.succeeded());
}

}  // namespace
}  // namespace qm
