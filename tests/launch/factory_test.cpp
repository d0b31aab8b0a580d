#include "launch/factory.h"

#include <gtest/gtest.h>

namespace qm {
namespace {

std::string error_of(const std::string& name, Precision precision, const GpuSupply& supply) {
  try {
    choose_device(name, precision, supply, 0);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(launch, ranks_take_the_gpus_of_their_host_in_order) {
  for (const int local_rank : {0, 1, 3}) {
    const Device gpu{DeviceType::kCuda, local_rank};
    EXPECT_EQ(choose_device("auto", Precision::kFp32, {.ranks = 4, .gpus = 4}, local_rank), gpu);
    EXPECT_EQ(choose_device("auto", Precision::kFp32, {.ranks = 4, .gpus = 8}, local_rank), gpu);
#ifdef QM_HAVE_CUDA
    EXPECT_EQ(choose_device("cuda", Precision::kFp32, {.ranks = 4, .gpus = 4}, local_rank), gpu);
#endif
  }
}

TEST(launch, the_cpu_computes_where_it_is_asked_to_or_must) {
  EXPECT_EQ(choose_device("cpu", Precision::kFp32, {.ranks = 1, .gpus = 8}, 0), Device{});
  EXPECT_EQ(choose_device("auto", Precision::kFp64, {.ranks = 1, .gpus = 8}, 0), Device{});
  EXPECT_EQ(choose_device("auto", Precision::kFp32, {.ranks = 1, .gpus = 0}, 0), Device{});
  // All ranks of the job, those with a GPU too.
  for (const int local_rank : {0, 1, 2}) {
    EXPECT_EQ(choose_device("auto", Precision::kFp32, {.ranks = 3, .gpus = 2}, local_rank), Device{});
  }
}

TEST(launch, gpus_that_are_not_there_are_refused) {
#ifdef QM_HAVE_CUDA
  EXPECT_EQ(error_of("cuda", Precision::kFp32, {.ranks = 4, .gpus = 2}),
            "--device cuda: 4 ranks on a host with 2 GPUs: start one rank a GPU");
  EXPECT_EQ(error_of("cuda", Precision::kFp32, {.ranks = 2, .gpus = 1}),
            "--device cuda: 2 ranks on a host with 1 GPU: start one rank a GPU");
  EXPECT_EQ(error_of("cuda", Precision::kFp32, {.ranks = 1, .gpus = 0}),
            "--device cuda: found no GPU and driver to use");
  EXPECT_EQ(error_of("cuda", Precision::kFp64, {.ranks = 1, .gpus = 1}),
            "--device cuda: precision fp64 runs on the CPU only");
#else
  EXPECT_EQ(error_of("cuda", Precision::kFp32, {.ranks = 1, .gpus = 1}),
            "--device cuda: this build has no CUDA back-end");
#endif
}

TEST(launch, the_model_is_what_the_recipe_says) {
  const auto config_of = [](const std::vector<std::string>& overrides) {
    return model_config(Recipe::load(std::string(QM_SOURCE_DIR) + "/recipes/cifar10_lite.toml", overrides));
  };
  EXPECT_EQ(config_of({}).stem_filters, FilterSampling::kStratified);
  EXPECT_EQ(config_of({"model.stem_filters=independent"}).stem_filters, FilterSampling::kIndependent);
  EXPECT_EQ(config_of({}).fine_order, FineOrder::kWindowRaster);
  EXPECT_EQ(config_of({"model.fine_order=quadtree"}).fine_order, FineOrder::kQuadtree);
  EXPECT_EQ(config_of({}).drop_path, 0.05);
}

}  // namespace
}  // namespace qm
