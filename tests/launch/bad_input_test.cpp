// What the program says to bad input: one line that names it, exit code ≠ 0, soon, and nothing half-written.
#include <sys/stat.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "data/checkpoint.h"
#include "data/pack.h"
#include "data/shard.h"
#include "tests/launch/small_project.h"
#include "tests/support/damaged_file.h"

namespace qm {
namespace {

namespace fs = std::filesystem;

/// Generous on a busy machine; what is refused is refused in far less.
constexpr double kSoon = 30;

void refuse(const Strings& arguments, const Strings& parts, int ranks = 1) {
  expect_refused(run_on_ranks(ranks, arguments, {.environment = {}, .timeout_seconds = kSoon, .folder = {}}), parts);
}

void refuse_train(const SmallProject& project, const Strings& settings, const Strings& parts, int ranks = 1) {
  const TrainCall call{.ranks = ranks, .settings = settings};
  refuse(project.train_arguments("refused", call), parts, ranks);
  EXPECT_FALSE(fs::exists(project / "refused")) << "a run folder was made";
}

std::string first_file_in(const std::string& folder) {
  return folder + "/" + entries_in(folder).at(0);
}

/// A project with one checkpoint, at step 1 of "run".
class TrainedProject : public SmallProject {
 public:
  TrainedProject() : SmallProject(24, 10) { expect_train("run", {.settings = {"train.max_steps=1"}}); }
  std::string checkpoint() const { return SmallProject::checkpoint("run", 1); }
};

// ---- data -----------------------------------------------------------------------------------------------------------

TEST(launch, refuses_missing_and_empty_data) {
  const TrainedProject project;
  fs::create_directory(project / "empty");
  for (const char* folder : {"missing", "empty"}) {
    const std::string data = project / folder;
    for (const int ranks : {1, 2}) {
      refuse({"train", project.recipe(), "--data", data, "--run", project / "refused"}, {data}, ranks);
    }
    refuse({"eval", "--checkpoint", project.checkpoint(), "--data", data}, {data});
    refuse({"pack", "--input", data, "--split", "train", "--output", project / "packed"}, {data});
  }
  refuse({"train", project.recipe(), "--run", project / "refused"}, {project.recipe(), "--data"});
  refuse({"eval", "--checkpoint", project.checkpoint(), "--data", project.data(), "--split", "test"},
         {project.data(), "test"});
  EXPECT_FALSE(fs::exists(project / "refused"));
  EXPECT_TRUE(!fs::exists(project / "packed") || fs::is_empty(project / "packed"));
}

TEST(launch, pack_names_a_truncated_jpeg_or_skips_it) {
  const SmallProject project(30, 10);
  const std::string truncated = first_file_in(project / "images/train/rings");
  fs::resize_file(truncated, fs::file_size(truncated) / 2);
  Strings arguments{"pack", "--input", project / "images/train", "--split", "train", "--output", project / "packed"};
  refuse(arguments, {truncated});
  EXPECT_TRUE(!fs::exists(project / "packed") || fs::is_empty(project / "packed"));

  arguments.push_back("--skip-bad");
  const ProgramResult result = run_quadmamba(arguments);
  EXPECT_TRUE(result.succeeded()) << result.describe();
  EXPECT_NE(result.out.find(truncated), std::string::npos) << result.describe();
  EXPECT_NE(result.out.find("29 images of 10 classes, 1 skipped"), std::string::npos) << result.describe();
  EXPECT_EQ(ShardSet(project / "packed", "train").size(), 29);
}

TEST(launch, pack_says_what_it_left_out) {
  const SmallProject project(30, 10);
  const std::string input = project / "images/train";
  fs::copy(first_file_in(input + "/rings"), input + "/stray.jpg");
  fs::copy(first_file_in(input + "/rings"), input + "/rings/.hidden.jpg");
  fs::create_symlink("nowhere", input + "/rings/link.jpg");
  Strings arguments{"pack", "--input", input, "--split", "train", "--output", project / "packed"};
  refuse(arguments, {input + "/rings/link.jpg", "a link to nothing", "--skip-bad"});
  EXPECT_FALSE(fs::exists(project / "packed"));

  arguments.push_back("--skip-bad");
  const ProgramResult result = run_quadmamba(arguments);
  EXPECT_TRUE(result.succeeded()) << result.describe();
  for (const std::string& line :
       {concat("Skipped: 2\n  ", input, "/rings/link.jpg: a link to nothing\n  ", input,
               "/stray.jpg: lies in no class folder\n"),
        concat("Hidden and passed over, whatever they hold: 1\n  ", input, "/rings/.hidden.jpg\n"),
        std::string("30 images of 10 classes, 2 skipped")}) {
    EXPECT_NE(result.out.find(line), std::string::npos) << line << result.describe();
  }
}

TEST(launch, refuses_a_shard_cut_short) {
  const TrainedProject project;
  const std::string shard = project.data() + "/val-00001-of-00002.h5";
  fs::resize_file(shard, fs::file_size(shard) - 1);
  refuse({"inspect", shard}, {shard});
  refuse({"eval", "--checkpoint", project.checkpoint(), "--data", project.data()}, {shard});
  refuse_train(project, {}, {shard});
  refuse_train(project, {}, {shard}, 2);
}

TEST(launch, refuses_a_split_with_a_missing_shard) {
  const SmallProject project(24, 10);
  fs::remove(project.data() + "/train-00000-of-00002.h5");
  refuse_train(project, {}, {project.data(), "train"});
}

/// Flips a bit of the last image of a shard, which only the sample's own checksum covers.
std::string damage_last_image(const std::string& shard) {
  std::vector<std::uint8_t> bytes = bytes_of_file(shard);
  const std::vector<std::uint8_t> end_of_jpeg{0xff, 0xd9};
  const auto last = std::find_end(bytes.begin(), bytes.end(), end_of_jpeg.begin(), end_of_jpeg.end());
  EXPECT_NE(last, bytes.end()) << shard;
  if (last == bytes.end()) return shard;
  *(last - 20) ^= 1;
  write_bytes(shard, bytes);
  return shard;
}

TEST(launch, a_sample_that_only_one_rank_reads_ends_the_job) {
  const TrainedProject project;
  const Strings eval{"eval", "--checkpoint", project.checkpoint(), "--data", project.data()};
  const std::string val = damage_last_image(project.data() + "/val-00001-of-00002.h5");
  refuse(eval, {val, "sample 4", "(id "});
  refuse(eval, {"[rank 1]", val, "sample 4", "(id "}, 2);
  refuse({"inspect", val}, {val, "sample 4"});

  const SmallProject other(24, 10);
  const std::string train = damage_last_image(other.data() + "/train-00001-of-00002.h5");
  refuse(other.train_arguments("run"), {train, "sample 11", "(id "}, 2);
  EXPECT_TRUE(entries_in(other / "run/checkpoints").empty());
}

TEST(launch, refuses_data_of_other_classes) {
  const TrainedProject project;
  refuse_train(project, {"model.classes=7"}, {project.data(), "10 classes", "model.classes is 7"});

  fs::copy(project / "images/val", project / "renamed", fs::copy_options::recursive);
  fs::rename(project / "renamed/rings", project / "renamed/wrings");
  pack({.input = project / "renamed", .split = "val", .output = project / "renamed-shards"});
  refuse({"eval", "--checkpoint", project.checkpoint(), "--data", project / "renamed-shards"},
         {project / "renamed-shards", "classes"});
  fs::remove_all(project / "renamed/wrings");
  pack({.input = project / "renamed", .split = "val", .output = project / "fewer-shards"});
  refuse({"eval", "--checkpoint", project.checkpoint(), "--data", project / "fewer-shards"},
         {project / "fewer-shards", "classes"});
}

TEST(launch, refuses_fewer_images_than_a_batch) {
  const SmallProject project(20, 10);
  refuse_train(project, {}, {"20", "24"});
}

// ---- checkpoints ----------------------------------------------------------------------------------------------------

/// Expects every command that reads a checkpoint to refuse this one.
void expect_no_command_reads(const TrainedProject& project, const std::string& file) {
  refuse({"inspect", file}, {file});
  refuse({"inspect", "--hash", file}, {file});
  refuse({"eval", "--checkpoint", file, "--data", project.data()}, {file});
  refuse({"predict", "--checkpoint", file, project / "images/val/rings/00000.jpg"}, {file});
}

TEST(launch, refuses_damaged_checkpoints) {
  const TrainedProject project;
  const std::vector<std::uint8_t> good = bytes_of_file(project.checkpoint());
  const std::string file = project / "damaged.h5";
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{100}, std::size_t{512}, good.size() / 2, good.size() - 1}) {
    SCOPED_TRACE(concat("length ", length));
    write_bytes(file, {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length)});
    expect_no_command_reads(project, file);
  }
  for (const std::size_t place :
       {std::size_t{0}, std::size_t{9}, std::size_t{511}, std::size_t{600}, good.size() / 3, good.size() - 1}) {
    SCOPED_TRACE(concat("byte ", place));
    std::vector<std::uint8_t> bytes = good;
    bytes[place] ^= 0x10;
    write_bytes(file, bytes);
    expect_no_command_reads(project, file);
  }
  write_bytes(file, good);
  EXPECT_EQ(project.hash(file), project.hash(project.checkpoint()));
}

TEST(launch, refuses_what_is_no_checkpoint) {
  const TrainedProject project;
  expect_no_command_reads(project, project / "missing.h5");
  expect_no_command_reads(project, project.data());
  const std::string shard = project.data() + "/val-00000-of-00002.h5";
  refuse({"eval", "--checkpoint", shard, "--data", project.data()}, {shard, "shard", "checkpoint"});
  refuse({"inspect", "--hash", shard}, {shard, "--hash"});
}

TEST(launch, refuses_a_checkpoint_of_another_size) {
  const TrainedProject project;
  const Strings parts{project.checkpoint(),
                      "patch_embed.0.weight: (4, 3, 3, 3) in the file, (8, 3, 3, 3) in the model"};
  refuse({"eval", "--checkpoint", project.checkpoint(), "--data", project.data(), "--set", "model.dim=16"}, parts);
  const TrainCall wider{.ranks = 1, .resume = true, .settings = {"model.dim=16"}};
  refuse(project.train_arguments("run", wider), parts);
  const TrainCall deeper{.ranks = 1, .resume = true, .settings = {"model.depths=[1,2,1,1]"}};
  refuse(project.train_arguments("run", deeper), {project.checkpoint(), "layers.1.blocks.1.", "missing in the file"});
  EXPECT_EQ(project.losses("run").size(), 1u) << "metrics.jsonl was cut";

  project.expect_train("deep", {.settings = {"model.depths=[1,2,1,1]", "train.max_steps=1"}});
  const TrainCall shallower{.ranks = 1, .resume = true, .settings = {}};
  refuse(project.train_arguments("deep", shallower),
         {project.SmallProject::checkpoint("deep", 1), "layers.1.blocks.1.", "only in the file"});
}

TEST(launch, resume_refuses_another_recipe_or_data) {
  const TrainedProject project;
  const TrainCall other{
      .ranks = 1, .resume = true, .settings = {"optimizer.learning_rate=1e-3", "seed=6", "train.max_steps=2"}};
  refuse(project.train_arguments("run", other),
         {project.checkpoint(), "optimizer.learning_rate: 0.002 in the checkpoint, 0.001 now", "seed: 5"});
  const SmallProject other_data(30, 10);
  refuse({"train", project.recipe(), "--data", other_data.data(), "--run", project / "run", "--resume"},
         {project.checkpoint(), "training data"});
  EXPECT_EQ(project.losses("run").size(), 1u) << "metrics.jsonl was cut";
}

TEST(launch, train_refuses_a_folder_that_holds_a_run) {
  const TrainedProject project;
  const std::vector<std::uint8_t> before = bytes_of_file(project.checkpoint());
  for (const int ranks : {1, 2}) refuse(project.train_arguments("run"), {project / "run", "--resume"}, ranks);
  EXPECT_EQ(bytes_of_file(project.checkpoint()), before);
  EXPECT_EQ(project.losses("run").size(), 1u) << "metrics.jsonl was cut";
  fs::remove(project.checkpoint());
  ASSERT_TRUE(fs::exists(project / "run/checkpoints/best.h5"));
  refuse(project.train_arguments("run"), {project / "run", "--resume"});
}

// ---- where it writes ------------------------------------------------------------------------------------------------

TEST(launch, refuses_a_run_folder_that_cannot_be_written) {
  const SmallProject project(24, 10);
  std::ofstream(project / "file") << "in the way";
  fs::create_directories(project / "blocked/log.txt");  // a folder where the log belongs
  for (const std::string& run :
       {project / "file", project / "file/run", project / "blocked", std::string("/proc/run")}) {
    for (const int ranks : {1, 2}) {
      refuse({"train", project.recipe(), "--data", project.data(), "--run", run}, {run}, ranks);
    }
  }
}

/// Runs the program where no file may grow beyond `kibibytes`, as if the disk were full.
ProgramResult run_with_full_disk(int kibibytes, const Strings& arguments) {
  Strings command{"bash", "-c", concat("ulimit -f ", kibibytes, "; exec \"$0\" \"$@\""), QM_PROGRAM};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run_program(command, {.environment = {"OMP_NUM_THREADS=1"}, .timeout_seconds = kSoon, .folder = {}});
}

TEST(launch, full_disk_while_saving_leaves_the_last_checkpoint) {
  const SmallProject project(48, 10);
  project.expect_train("whole", {.settings = {"train.max_steps=3"}});
  project.expect_train("run", {.settings = {"train.max_steps=1"}});
  const Strings files = entries_in(project / "run/checkpoints");
  const TrainCall rest{.ranks = 1, .resume = true, .settings = {"train.max_steps=3"}};

  const ProgramResult result = run_with_full_disk(256, project.train_arguments("run", rest));
  expect_refused(result, {project / "run/checkpoints/"});
  EXPECT_EQ(entries_in(project / "run/checkpoints"), files) << "something half-written is left";
  project.hash(project.checkpoint("run", 1));

  project.expect_train("run", rest);
  EXPECT_EQ(project.hash(project.checkpoint("run", 3)), project.hash(project.checkpoint("whole", 3)));
  EXPECT_EQ(project.course("run"), project.course("whole"));
}

TEST(launch, full_disk_while_packing_leaves_no_shard) {
  const SmallProject project(30, 10);
  const Strings arguments{
      "pack", "--input", project / "images/train", "--split", "train", "--output", project / "packed", "--shards", "1"};
  expect_refused(run_with_full_disk(16, arguments), {"train-00000-of-00001.h5"});
  EXPECT_TRUE(entries_in(project / "packed").empty());
}

// ---- recipe, ranks, device ------------------------------------------------------------------------------------------

TEST(launch, refuses_pack_options_that_contradict) {
  const SmallProject project(24, 10);
  const auto pack = [&](const Strings& more) {
    Strings arguments{"pack",    "--input",  project / "images/train", "--split",
                      "train", "--output", project / "packed"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_quadmamba(arguments);
  };
  for (const Strings& more : {Strings{"--shards", "2", "--shard-mib", "3"}, Strings{"--quality", "80"}}) {
    const ProgramResult result = pack(more);
    EXPECT_EQ(result.exit_code, 2) << result.describe();
    EXPECT_NE(result.error.find(more.front()), std::string::npos) << result.describe();
    EXPECT_FALSE(fs::exists(project / "packed")) << more.front();
  }
}

TEST(launch, pack_refuses_to_write_among_its_images) {
  const SmallProject project(24, 10);
  for (const char* inside : {"", "/shards", "/../train/shards"}) {
    const std::string input = project / "images/train", output = input + inside;
    expect_refused(run_quadmamba({"pack", "--input", input + "/", "--split", "train", "--output", output}), {output});
    EXPECT_FALSE(fs::exists(input + "/shards"));
  }
}

TEST(launch, pack_does_not_wait_for_a_pipe) {
  const SmallProject project(24, 10);
  const std::string folder = project / "images/train";
  std::string in_class;
  for (const auto& entry : fs::directory_iterator(folder)) in_class = entry.path() / "pipe.jpg";
  ASSERT_EQ(::mkfifo(in_class.c_str(), 0600), 0);
  const ProgramResult result =
      run_program({QM_PROGRAM, "pack", "--input", folder, "--split", "train", "--output", project / "packed"},
                  {.environment = {}, .timeout_seconds = kSoon, .folder = {}});
  expect_refused(result, {in_class, "not a regular file"});
}

TEST(launch, refuses_steps_that_cannot_be_profiled) {
  const SmallProject project(24, 10);
  for (const char* steps : {"5", "5:2", "0:2", "1:2x", "a:b"}) {
    const ProgramResult result = project.train("run", {.options = {concat("--profile-steps=", steps)}});
    EXPECT_EQ(result.exit_code, 2) << result.describe();
    EXPECT_NE(result.error.find(concat("'", steps, "'")), std::string::npos) << result.describe();
  }
  const ProgramResult result = project.train("run", {.options = {"--profile-steps=2:3", "--device=cpu"}});
  EXPECT_EQ(result.exit_code, 2) << result.describe();
  EXPECT_NE(result.error.find("needs a GPU"), std::string::npos) << result.describe();
}

TEST(launch, refuses_a_batch_that_the_ranks_cannot_share) {
  const SmallProject project(48, 10);
  const Strings no_mix{"mix.mixup=0", "mix.cutmix=0"};
  refuse_train(project, {no_mix[0], no_mix[1], "train.global_batch=25"}, {"global batch 25", "2 ranks"}, 2);
  refuse_train(project, {no_mix[0], no_mix[1], "train.global_batch=24", "train.micro_batch=8"}, {"12", "8"}, 2);
  refuse_train(project, {"train.global_batch=26", "mix.group=26"}, {"global batch 26", "2 ranks"}, 2);  // 13 + 13
  refuse_train(project, {"train.micro_batch=5"}, {"train.micro_batch", "5"});
}

TEST(launch, refuses_recipes_by_file_line_and_key) {
  const SmallProject project(24, 10);
  const std::string recipe = project / "other.toml";
  fs::copy_file(project.recipe(), recipe);
  std::ofstream(recipe, std::ios::app) << "warmup_epoch = 1\n";
  const std::vector<std::uint8_t> bytes = bytes_of_file(recipe);
  const auto line = std::count(bytes.begin(), bytes.end(), '\n');
  refuse({"train", recipe, "--data", project.data(), "--run", project / "refused"},
         {concat(recipe, ":", line), "schedule.warmup_epoch"});
  refuse({"inspect", recipe}, {concat(recipe, ":", line), "schedule.warmup_epoch"});
  refuse({"train", project / "missing.toml", "--data", project.data()}, {project / "missing.toml"});
  EXPECT_FALSE(fs::exists(project / "refused"));

  refuse_train(project, {"train.epoch=3"}, {"--set train.epoch=3", "train.epoch"});
  refuse_train(project, {"train.epochs=three"}, {"--set train.epochs=three"});
  refuse_train(project, {"train.epochs=-1"}, {"--set train.epochs=-1"});
}

TEST(launch, refuses_devices_and_precisions_that_are_not_there) {
  const TrainedProject project;
  Strings train = project.train_arguments("refused");
  train.insert(train.end(), {"--device", "cuda"});
  refuse(train, {"--device cuda"});
  refuse({"eval", "--checkpoint", project.checkpoint(), "--data", project.data(), "--device", "cuda"},
         {"--device cuda"});
  refuse_train(project, {"precision=bf16"}, {"bf16", "GPU"});
}

// ---- predict --------------------------------------------------------------------------------------------------------

TEST(launch, predict_refuses_what_is_no_image) {
  const TrainedProject project;
  const std::string text = project / "text.jpg", empty = project / "empty.jpg", cut = project / "cut.jpg";
  std::ofstream(text) << "no image at all";
  std::ofstream(empty).flush();
  std::vector<std::uint8_t> jpeg = bytes_of_file(first_file_in(project / "images/val/rings"));
  jpeg.resize(jpeg.size() / 2);
  write_bytes(cut, jpeg);
  for (const std::string& image : {text, empty, cut, project / "missing.jpg", project / "images"}) {
    refuse({"predict", "--checkpoint", project.checkpoint(), image}, {image});
  }
}

// ---- numbers that explode -------------------------------------------------------------------------------------------

void expect_finite(const std::vector<NamedTensor>& tensors, const std::string& file) {
  ASSERT_FALSE(tensors.empty()) << file;
  for (const auto& [name, tensor] : tensors) {
    for (const float value : tensor.to_vector<float>()) ASSERT_TRUE(std::isfinite(value)) << file << ": " << name;
  }
}

/// Trains at `rate` until it is refused and returns how many checkpoints were saved, all of them finite.
std::size_t finite_checkpoints_at_rate(const std::string& rate, const std::string& part) {
  const SmallProject project(48, 10);
  const TrainCall call{.settings = {"precision=fp32", "optimizer.learning_rate=" + rate, "schedule.warmup_epochs=0",
                                    "checkpoint.every_steps=1", "checkpoint.keep_last=100"}};
  expect_refused(project.train("run", call), {"step ", "finite", part});
  const Strings saved = entries_in(project / "run/checkpoints");
  for (const std::string& name : saved) {
    const std::string file = project / concat("run/checkpoints/", name);
    const Checkpoint checkpoint = read_checkpoint(file);
    expect_finite(checkpoint.model, file);
    expect_finite(checkpoint.ema, file);
    expect_finite(checkpoint.exp_avg, file);
    expect_finite(checkpoint.exp_avg_sq, file);
  }
  return saved.size();
}

TEST(launch, a_loss_that_is_not_finite_ends_the_run_and_is_not_saved) {
  EXPECT_GE(finite_checkpoints_at_rate("1e30", "loss or a gradient"), 1u);
}

TEST(launch, a_weight_that_is_not_finite_ends_the_run_and_is_not_saved) {
  EXPECT_EQ(finite_checkpoints_at_rate("1e300", ": model/"), 0u);
}

}  // namespace
}  // namespace qm
