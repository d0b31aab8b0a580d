// quadmamba doctor: what this machine has, what it lacks, and whether every op computes right on it.
#include <cstdio>

#include "launch/commands.h"
#include "launch/doctor.h"
#include "launch/revision.h"
#include "launch/self_test.h"

namespace qm {
namespace {

void print_remedies(const std::vector<std::string>& lines) {
  if (lines.empty()) std::printf("Nothing is missing.\n");
  for (const std::string& line : lines) std::printf("! %s\n", line.c_str());
}

/// A line an op. Returns how many failed.
int print_self_test(Device device) {
  std::printf("\nSelf-test on %s in float32, forward and backward, against the CPU in float64; tolerance %.0e\n",
              device.name().c_str(), kSelfTestTolerance);
  int failed = 0;
  for (const OpCase& op : op_cases()) {
    const OpResult result = test_op(op, device);
    std::printf("%s\n", result.text().c_str());
    std::fflush(stdout);  // an op may take a while, or the process with it
    failed += !result.passed();
  }
  return failed;
}

}  // namespace

int run_doctor(std::span<const std::string> arguments, const Environment&) {
  CommandLine line(
      "doctor",
      "Shows driver, GPUs and libraries, says what is missing and what to do about it, and tests every op\n"
      "on every GPU, or on the CPU where there is none. Exit code 1 if an op fails.");
  if (!line.parse(arguments)) return 0;

  const Machine machine = examine_machine();
  std::printf("quadmamba %s\n\n%s\n", source_revision().c_str(), describe(machine).c_str());
  print_remedies(remedies(machine));

  int failed = 0;
  if (machine.gpus.empty()) failed = print_self_test(Device{});
  for (std::size_t i = 0; i < machine.gpus.size(); ++i) {
    failed += print_self_test({DeviceType::kCuda, static_cast<int>(i)});
  }
  std::printf(failed == 0 ? "\nAll ops compute what they should.\n" : "\n%d ops FAILED.\n", failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace qm
