// tests/gpu_report.sh with stand-ins for the GPU machine's programs: that a failure is one, and what is left out is
// said.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

namespace fs = std::filesystem;

/// A machine with one GPU on which all is well, unless a script is replaced.
class StandIns {
 public:
  StandIns() {
    write("nvidia-smi", "echo 'NVIDIA Example, 81559 MiB, 9.0'");
    write("quadmamba", "[ $1 = doctor ] && echo 'cuda:0   NVIDIA Example' || echo 'quadmamba 0123abc'");
    write("qm_tests",
          "case \"$*\" in\n"
          "  *list_tests*) printf 'gpu.\\n  one\\n  two\\n' ;;\n"
          "  *) printf '[       OK ] gpu.one (1 ms)\\n[       OK ] gpu.two (1 ms)\\n' ;;\n"
          "esac");
    write("compute-sanitizer",
          "echo '========= COMPUTE-SANITIZER'; shift 4; \"$@\"; echo '========= ERROR SUMMARY: 0 errors'");
  }

  void write(const std::string& name, const std::string& script) const {
    const std::string path = folder_ / name;
    std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
    fs::permissions(path, fs::perms::owner_all);
  }

  ProgramResult run(std::vector<std::string> options = {}) const {
    std::vector<std::string> command{QM_SOURCE_DIR "/tests/gpu_report.sh", "--output", report_};
    command.insert(command.end(), options.begin(), options.end());
    command.insert(command.end(), {folder_ / "qm_tests", folder_ / "quadmamba"});
    RunOptions run;
    run.environment = {"PATH=" + (folder_ / "") + ":" + std::getenv("PATH")};
    return run_program(command, run);
  }

  std::string report() const {
    std::ostringstream text;
    text << std::ifstream(report_).rdbuf();
    return text.str();
  }

  void expect(const ProgramResult& result, int exit_code, const std::vector<std::string>& parts) const {
    EXPECT_EQ(result.exit_code, exit_code) << result.describe();
    for (const std::string& part : parts) {
      EXPECT_NE(report().find(part), std::string::npos) << part << " in\n" << report();
    }
  }

 private:
  TemporaryFolder folder_;
  std::string report_ = folder_ / "report.txt";
};

TEST(tests, gpu_report_says_what_passed_and_what_was_left_out) {
  const StandIns machine;
  machine.expect(machine.run(), 0,
                 {"\nsource   0123abc\n", "\ncard     NVIDIA Example, 81559 MiB, 9.0\n",
                  "\nresult   12 passed, 0 failed, 2 left out\n", "\n== GPU tests: passed, 2 tests",
                  "[       OK ] gpu.two (1 ms)", "\n== NCCL between two ranks: left out, there is one GPU\n",
                  "\n== compute-sanitizer racecheck: passed, nothing found in 2 tests",
                  "\n== compute-sanitizer racecheck of cross_scan: passed, nothing found in 2 tests"});
  machine.expect(machine.run({"--no-sanitizer"}), 0, {"\n== compute-sanitizer: left out, as asked\n"});
}

TEST(tests, gpu_report_fails_with_a_test) {
  const StandIns machine;
  machine.write("qm_tests", "echo '[  FAILED  ] gpu.one (1 ms)'; exit 1");
  machine.expect(machine.run({"--no-sanitizer"}), 1, {"== GPU tests: FAILED, exit code 1", "[  FAILED  ] gpu.one"});
  machine.write("qm_tests", "echo 'no GPU here'; echo '[  SKIPPED ] gpu.one (1 ms)'");
  machine.expect(machine.run({"--no-sanitizer"}), 1, {"== GPU tests: FAILED, tests found no GPU"});
  machine.write("qm_tests", "echo 'Running 0 tests'");
  machine.expect(machine.run({"--no-sanitizer"}), 1, {"== GPU tests: FAILED, there are no such tests"});
}

TEST(tests, gpu_report_fails_with_the_doctor) {
  const StandIns machine;
  machine.write("quadmamba", "echo 'quadmamba 0123abc'; [ $1 != doctor ]");
  machine.expect(machine.run({"--no-sanitizer"}), 1, {"== quadmamba doctor: FAILED, exit code 1"});
  machine.write("quadmamba", "echo 'quadmamba 0123abc'");
  machine.expect(machine.run({"--no-sanitizer"}), 1, {"== quadmamba doctor: FAILED, it sees no GPU"});
}

TEST(tests, gpu_report_fails_with_what_a_sanitizer_finds) {
  const StandIns machine;
  machine.write("compute-sanitizer", "echo '========= Invalid __global__ write of size 4 bytes'; exit 9");
  machine.expect(machine.run(), 1, {"== compute-sanitizer memcheck: FAILED, it found something", "Invalid __global__"});
}

TEST(tests, gpu_report_names_what_a_sanitizer_did_not_reach) {
  const StandIns machine;
  machine.write("compute-sanitizer", "echo '[       OK ] gpu.one (1 ms)'; exec sleep 60");
  machine.expect(machine.run({"--sanitizer-seconds", "1"}), 0,
                 {"== compute-sanitizer memcheck: passed, nothing found until it was ended", "\nleft out: gpu.two\n"});
}

TEST(tests, gpu_report_refuses_what_it_does_not_understand) {
  const StandIns machine;
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"--sanitizer-seconds", "soon"}, {"--fast"}, {"third_program"}}) {
    const ProgramResult result = machine.run(options);
    EXPECT_EQ(result.exit_code, 2) << result.describe();
    EXPECT_TRUE(result.error.starts_with("gpu_report.sh: ")) << result.describe();
  }
}

}  // namespace
}  // namespace qm
