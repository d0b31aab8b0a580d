#include "data/checkpoint.h"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "data/guarded_file.h"
#include "data/shard.h"
#include "kernels/base/fault.h"
#include "tests/support/damaged_file.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

Checkpoint sample_checkpoint() {
  Checkpoint checkpoint;
  checkpoint.model = {{"layers.0.weight", Tensor::from<float>({1, -2, 3, 4.5f, 5, 6}, {2, 3})},
                      {"head.bias", Tensor::from<float>({0.1f}, {1})}};
  checkpoint.ema = {{"head.bias", Tensor::from<float>({-0.0f, std::numeric_limits<float>::infinity()}, {2, 1, 1})}};
  checkpoint.exp_avg = {{"head.bias", Tensor::from<double>({1.0 / 3}, {})}};
  checkpoint.exp_avg_sq = {{"head.bias", Tensor::from<double>({1e-300}, {1})},
                           {"empty", Tensor::from<float>({}, {0, 4})}};
  checkpoint.state = {.step = 12345,
                      .epoch = 3,
                      .step_in_epoch = 17,
                      .seed = 0xFFFFFFFFFFFFFFFFu,
                      .best_top1 = 0.1,
                      .best_step = 12000,
                      .ema_updates = 12344,
                      .evaluation_pending = 1,
                      .world_size = 2,
                      .global_batch = 24,
                      .metrics_lines = 1 << 20,
                      .data_digest = 0x8000000000000001u};
  checkpoint.recipe = "name = \"näno\"\n[train]\nepochs = 3\n";
  checkpoint.revision = "0123456789ab-dirty";
  checkpoint.class_names = {"cat", "dög", ""};
  return checkpoint;
}

void expect_same(const Tensor& found, const Tensor& expected) {
  EXPECT_EQ(found.shape(), expected.shape());
  ASSERT_EQ(found.dtype(), expected.dtype());
  EXPECT_EQ(std::memcmp(found.raw(), expected.raw(), expected.bytes()), 0);
}

/// `expected` in any order, `found` sorted by name.
void expect_same(const std::vector<NamedTensor>& found, const std::vector<NamedTensor>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  EXPECT_TRUE(std::ranges::is_sorted(found, {}, &NamedTensor::name));
  for (const NamedTensor& named : expected) {
    const auto match = std::ranges::find(found, named.name, &NamedTensor::name);
    ASSERT_NE(match, found.end()) << named.name;
    expect_same(match->tensor, named.tensor);
  }
}

TEST(data, checkpoint_round_trip_is_exact) {
  const TemporaryFolder folder;
  const std::string path = folder / "step-00012345.h5";
  const Checkpoint written = sample_checkpoint();
  write_checkpoint(path, written);
  const Checkpoint read = read_checkpoint(path);
  expect_same(read.model, written.model);
  expect_same(read.ema, written.ema);
  expect_same(read.exp_avg, written.exp_avg);
  expect_same(read.exp_avg_sq, written.exp_avg_sq);
  EXPECT_EQ(read.state, written.state);
  EXPECT_EQ(read.recipe, written.recipe);
  EXPECT_EQ(read.revision, written.revision);
  EXPECT_EQ(read.class_names, written.class_names);
  EXPECT_EQ(entries_in(folder.path()), std::vector<std::string>{"step-00012345.h5"});
}

TEST(data, checkpoint_without_anything_round_trips) {
  const TemporaryFolder folder;
  write_checkpoint(folder / "empty.h5", {});
  const Checkpoint read = read_checkpoint(folder / "empty.h5");
  EXPECT_TRUE(read.model.empty() && read.class_names.empty() && read.recipe.empty());
  EXPECT_EQ(read.state, TrainingState{});
}

TEST(data, checkpoint_larger_than_a_page_round_trips) {
  const TemporaryFolder folder;
  std::vector<float> values(700000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
  Checkpoint checkpoint;
  for (int i = 0; i < 300; ++i) {
    checkpoint.model.push_back({concat("layers.", i, ".op.in_proj.weight"), Tensor::from<float>({1.f * i}, {1})});
  }
  checkpoint.model.push_back({"large", Tensor::from(values, {700, 1000})});
  write_checkpoint(folder / "large.h5", checkpoint);
  expect_same(read_checkpoint(folder / "large.h5").model, checkpoint.model);
}

TEST(data, checkpoint_same_content_same_bytes_in_any_order) {
  const TemporaryFolder folder;
  Checkpoint checkpoint = sample_checkpoint();
  write_checkpoint(folder / "one.h5", checkpoint);
  std::reverse(checkpoint.model.begin(), checkpoint.model.end());
  write_checkpoint(folder / "other.h5", checkpoint);
  EXPECT_EQ(bytes_of_file(folder / "one.h5"), bytes_of_file(folder / "other.h5"));
}

TEST(data, checkpoint_every_flipped_byte_is_detected) {
  const TemporaryFolder folder;
  const std::string path = folder / "small.h5";
  write_checkpoint(path, sample_checkpoint());
  expect_every_flip_detected(path, [&] { read_checkpoint(path); });
}

TEST(data, checkpoint_every_length_is_detected) {
  const TemporaryFolder folder;
  const std::string path = folder / "small.h5";
  write_checkpoint(path, sample_checkpoint());
  expect_every_length_detected(path, [&] { read_checkpoint(path); });
}

/// A checkpoint in a folder of its own, and another that is to take its place.
struct Replacement {
  Replacement() {
    write_checkpoint(path, checkpoint);
    before = bytes_of_file(path);
    checkpoint.state.step = 1;
  }
  std::string error() const {
    return error_of([&] { write_checkpoint(path, checkpoint); });
  }
  void expect_old_one() const {
    EXPECT_EQ(bytes_of_file(path), before);
    EXPECT_EQ(entries_in(folder.path()), std::vector<std::string>{"small.h5"});
  }
  /// Now that nothing is in its way.
  void expect_succeeds() const {
    write_checkpoint(path, checkpoint);
    EXPECT_EQ(read_checkpoint(path).state.step, 1);
  }

  TemporaryFolder folder;
  const std::string path = folder / "small.h5";
  Checkpoint checkpoint = sample_checkpoint();
  std::vector<std::uint8_t> before;
};

TEST(data, checkpoint_on_a_full_disk_keeps_the_old_one) {
  const Replacement replacement;
  for (std::size_t limit = 0; limit < replacement.before.size(); limit += 997) {
    SCOPED_TRACE(limit);
    {
      const FileSizeLimit full(limit);
      EXPECT_EQ(replacement.error(), replacement.path + ": cannot write: File too large");
    }
    replacement.expect_old_one();
  }
  replacement.expect_succeeds();
}

TEST(data, checkpoint_that_the_disk_garbles_keeps_the_old_one) {
  const Replacement replacement;
  const std::string& path = replacement.path;
  for (const int part : {1, 2}) {  // its contents, its guard
    SCOPED_TRACE(part);
    arm_fault(concat("fail@file-damage:", part), 0);
    const std::string what = replacement.error();
    EXPECT_TRUE(what.starts_with(path + ": not written: " + path + ".tmp: ")) << what;
    replacement.expect_old_one();
  }
  replacement.expect_succeeds();
}

TEST(data, checkpoint_to_a_folder_that_takes_none) {
  const TemporaryFolder folder;
  EXPECT_EQ(error_of([&] { write_checkpoint(folder / "none/a.h5", {}); }),
            folder / "none/a.h5" + ": cannot create: No such file or directory");
  write_bytes(folder / "file", {1});
  EXPECT_EQ(error_of([&] { write_checkpoint(folder / "file/a.h5", {}); }),
            folder / "file/a.h5" + ": cannot create: Not a directory");

  const std::string locked = folder / "locked";
  std::filesystem::create_directory(locked);
  std::filesystem::permissions(locked, std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  std::filesystem::permissions(folder.path(), std::filesystem::perms::all);
  const bool is_root = geteuid() == 0;  // whom no permission stops
  ASSERT_EQ(is_root ? seteuid(65534) : 0, 0);
  EXPECT_EQ(error_of([&] { write_checkpoint(locked + "/a.h5", {}); }),
            locked + "/a.h5: cannot create: Permission denied");
  ASSERT_EQ(is_root ? seteuid(0) : 0, 0);
}

TEST(data, checkpoint_older_than_a_field_has_its_default) {
  const TemporaryFolder folder;
  const std::string path = folder / "old.h5";
  write_checkpoint(path, sample_checkpoint());
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  ASSERT_GE(H5Adelete_by_name(file, "state", "evaluation_pending", H5P_DEFAULT), 0);
  ASSERT_GE(H5Fclose(file), 0);
  MemoryImage image;
  image.write(0, bytes_of_file(path));
  {
    AtomicFile guarded(path);
    write_guarded(guarded, FileKind::kCheckpoint, image);
    guarded.finish();
    guarded.publish();
  }
  TrainingState expected = sample_checkpoint().state;
  expected.evaluation_pending = 0;
  EXPECT_EQ(read_checkpoint(path).state, expected);
}

TEST(data, checkpoint_refuses_other_files) {
  const TemporaryFolder folder;
  const std::vector<std::uint8_t> jpeg = {0xFF, 0xD8, 0xFF};
  ShardWriter writer(folder.path(), "val", 0, 1, {"only"});
  writer.append({jpeg, 0, 0, 1, 1});
  writer.finish();
  writer.publish();
  EXPECT_EQ(error_of([&] { read_checkpoint(writer.path()); }),
            writer.path() + ": expected a checkpoint, found a shard");
  const std::string none = folder / "none.h5";
  EXPECT_EQ(error_of([&] { read_checkpoint(none); }), none + ": cannot open: No such file or directory");
}

TEST(data, checkpoint_refuses_tensors_it_cannot_keep) {
  const TemporaryFolder folder;
  const auto write = [&](std::vector<NamedTensor> model) {
    Checkpoint checkpoint;
    checkpoint.model = std::move(model);
    write_checkpoint(folder / "a.h5", checkpoint);
  };
  const Tensor good = Tensor::from<float>({1}, {1});
  EXPECT_THROW(write({{"a", good}, {"a", good}}), Error);
  EXPECT_THROW(write({{"a/b", good}}), Error);
  EXPECT_THROW(write({{"", good}}), Error);
  EXPECT_THROW(write({{"a", Tensor()}}), Error);
  EXPECT_THROW(write({{"a", Tensor::from<std::int32_t>({1}, {1})}}), ShapeError);
  EXPECT_TRUE(entries_in(folder.path()).empty());
  EXPECT_EQ(H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

TEST(data, weights_digest_sees_names_types_shapes_and_bytes) {
  const Tensor a = Tensor::from<float>({1, 2}, {2}), b = Tensor::from<float>({3}, {1});
  const std::string digest = weights_digest({{"a", a}, {"b", b}});
  EXPECT_EQ(digest.size(), 64u);
  EXPECT_EQ(weights_digest({{"b", b}, {"a", a.clone()}}), digest);
  EXPECT_NE(weights_digest({{"a", a}, {"c", b}}), digest);
  EXPECT_NE(weights_digest({{"a", a.reshape({1, 2})}, {"b", b}}), digest);
  EXPECT_NE(weights_digest({{"a", a.to(DType::kFloat64)}, {"b", b}}), digest);
  EXPECT_NE(weights_digest({{"a", Tensor::from<float>({1, std::nextafter(2.f, 3.f)}, {2})}, {"b", b}}), digest);
}

}  // namespace
}  // namespace qm
