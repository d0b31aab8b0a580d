#include "launch/doctor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <set>

#include "autograd/tape.h"
#include "launch/self_test.h"
#include "tests/support/run_program.h"

namespace qm {
namespace {

namespace fs = std::filesystem;

// ---- the self-test --------------------------------------------------------------------------------------------------

/// y = x + off, with gradient (1 + grad_off) grad_y; in float64 always the identity.
OpCase identity_with_error(float off, float grad_off) {
  const Tensor x = Tensor::from(std::vector<double>{1, -2, 3}, {3});
  return {"identity", {x}, [=](const std::vector<Tensor>& inputs) {
            const Tensor in = inputs[0], out = in.clone();
            const bool wrong = in.dtype() == DType::kFloat32;
            if (wrong) out.data<float>()[1] += off;
            Tape::record("identity", {in}, {out}, [=](Backward& grad) {
              const Tensor grad_x = grad.assign(0);
              grad_x.copy_from(grad.grad_output(0));
              if (wrong) grad_x.data<float>()[2] *= 1 + grad_off;
            });
            return std::vector<Tensor>{out};
          }};
}

TEST(launch, self_test_covers_every_op) {
  std::set<std::string> ops, tested;
  for (const auto& entry : fs::directory_iterator(fs::path(QM_SOURCE_DIR) / "autograd/ops")) {
    if (entry.path().extension() == ".cpp") ops.insert(entry.path().stem().string());
  }
  ops.erase("core_scan");  // what cross_scan and quad_scan have in common
  for (const OpCase& op : op_cases()) tested.insert(op.name);
  EXPECT_EQ(tested, ops);
}

TEST(launch, self_test_passes_on_the_cpu) {
  for (const OpCase& op : op_cases()) {
    const OpResult result = test_op(op, Device{});
    EXPECT_TRUE(result.passed()) << result.text();
    EXPECT_LT(result.error, kSelfTestTolerance / 5) << op.name << ": the tolerance is too tight for comfort";
  }
}

TEST(launch, self_test_passes_what_is_right) {
  const OpResult result = test_op(identity_with_error(0, 0), Device{});
  EXPECT_TRUE(result.passed()) << result.text();
  EXPECT_LT(result.error, 1e-7);  // adding to a gradient rounds
  EXPECT_TRUE(result.text().starts_with("identity                ok      max error ")) << result.text();
}

TEST(launch, self_test_reports_a_wrong_op) {
  const auto text_of = [](float off, float grad_off) {
    const OpResult result = test_op(identity_with_error(off, grad_off), Device{});
    EXPECT_FALSE(result.passed());
    return result.text();
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(text_of(0.01f, 0), "identity                FAILED  output 0 has error 2.7e-03");
  EXPECT_NE(text_of(0, 0.01f).find("FAILED  gradient 0 has error"), std::string::npos);
  EXPECT_NE(text_of(nan, 0).find("output 0 has error nan"), std::string::npos);
  EXPECT_NE(text_of(0, nan).find("gradient 0 has error nan"), std::string::npos);
}

TEST(launch, self_test_reports_an_op_that_throws) {
  OpCase op = identity_with_error(0, 0);
  op.op = [](const std::vector<Tensor>& inputs) -> std::vector<Tensor> {
    if (inputs[0].dtype() == DType::kFloat32) throw CudaError("no kernel image");
    return {inputs[0].clone()};
  };
  op.roots.clear();
  EXPECT_EQ(test_op(op, Device{}).text(), "identity                FAILED  no kernel image");
}

// ---- the machine ----------------------------------------------------------------------------------------------------

/// A machine that lacks nothing.
Machine good_machine() {
  return {.has_cuda_backend = true,
          .driver = "580.65.06",
          .cuda = {.toolkit = 13000, .runtime = 13000, .driver = 13000},
          .gpus = {{"NVIDIA H100", std::size_t{80} << 30, 9, 0, GpuCode::kMachineCode}},
          .libraries = {{"cuDNN", "9.14.0", "9.14.0", ""}, {"MPI", "3.1", "3.1", "Open MPI v4.1.4"}}};
}

void expect_remedy(const Machine& machine, const std::string& line) {
  EXPECT_EQ(remedies(machine), std::vector<std::string>{line});
}

TEST(launch, doctor_describes_a_machine) {
  EXPECT_EQ(describe(good_machine()),
            "driver        580.65.06, for CUDA up to 13.0\n"
            "CUDA          13.0\n"
            "cuda:0        NVIDIA H100, 81920 MiB, compute capability 9.0, machine code in this build\n"
            "cuDNN         9.14.0\n"
            "MPI           3.1 (Open MPI v4.1.4)\n");
  EXPECT_TRUE(remedies(good_machine()).empty());
}

TEST(launch, doctor_describes_a_machine_without_gpus) {
  EXPECT_EQ(describe(Machine{}), "driver        none\nCUDA          not in this build\nGPU           none\n");
  expect_remedy(Machine{},
                "this build computes on the CPU only: for GPUs install nvcc, cuBLASLt, cuDNN and NCCL, and build with "
                "-DQM_CUDA=ON");
}

TEST(launch, doctor_knows_what_is_wrong_with_a_driver) {
  Machine machine = good_machine();
  machine.gpus.clear();
  expect_remedy(machine, "no GPU that this process can use: see nvidia-smi and the variable CUDA_VISIBLE_DEVICES");
  machine.cuda.driver = 12080;
  expect_remedy(machine,
                "the driver knows CUDA up to 12.8, this program runs with 13.0: update the driver, or build with an "
                "older CUDA toolkit");
  machine.cuda.driver = 0;
  machine.driver.clear();
  expect_remedy(machine, "no NVIDIA driver: install one for CUDA 13.0 or newer");
}

TEST(launch, doctor_takes_a_driver_of_an_earlier_minor_version) {
  Machine machine = good_machine();
  machine.cuda = {.toolkit = 13020, .runtime = 13020, .driver = 13000};
  EXPECT_TRUE(remedies(machine).empty());
}

TEST(launch, doctor_knows_gpus_that_this_build_is_not_for) {
  Machine machine = good_machine();
  machine.gpus = {{"new", 0, 12, 1, GpuCode::kPtx}, {"old", 0, 6, 0, GpuCode::kNone}};
  EXPECT_EQ(remedies(machine),
            (std::vector<std::string>{"cuda:0: no machine code for compute capability 12.1, so every first start "
                                      "compiles: build with -DCMAKE_CUDA_ARCHITECTURES=121",
                                      "cuda:1: cannot run this build's code (compute capability 6.0): build with "
                                      "-DCMAKE_CUDA_ARCHITECTURES=60"}));
}

TEST(launch, doctor_compares_versions_by_their_numbers) {
  Machine machine = good_machine();
  machine.libraries = {
      {"cuDNN", "9.14.0", "9.9.1", ""}, {"NCCL", "2.9.8", "2.28.3", ""}, {"HDF5", "1.10", "1.10.8", ""}};
  expect_remedy(machine,
                "cuDNN: 9.9.1 is loaded, but this program was built with 9.14.0: put the newer one first in "
                "LD_LIBRARY_PATH, or build again");
}

TEST(launch, doctor_looks_at_this_machine) {
  const Machine machine = examine_machine();
  EXPECT_EQ(machine.gpus.size(), static_cast<std::size_t>(cuda_device_count()));
  std::set<std::string> names;
  for (const LibraryVersion& library : machine.libraries) {
    names.insert(library.name);
    for (const std::string& version : {library.built, library.loaded}) {
      EXPECT_TRUE(std::isdigit(version.empty() ? '-' : version.front())) << library.name << " '" << version << "'";
    }
  }
  for (const char* name : {"OpenBLAS", "HDF5", "MPI"}) EXPECT_TRUE(names.contains(name)) << name;
  EXPECT_EQ(names.contains("NCCL"), machine.has_cuda_backend);
}

TEST(launch, doctor_reports_every_op) {
  const ProgramResult result = run_quadmamba({"doctor"});
  EXPECT_EQ(result.exit_code, 0) << result.describe();
  EXPECT_EQ(result.error, "") << result.describe();
  for (const OpCase& op : op_cases()) {
    EXPECT_NE(result.out.find("\n" + op.name + " "), std::string::npos) << op.name << " in " << result.describe();
  }
  EXPECT_NE(result.out.find("\nAll ops compute what they should.\n"), std::string::npos) << result.describe();
}

}  // namespace
}  // namespace qm
