#include "data/checkpoint.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <utility>

#include "data/file.h"
#include "data/guarded_file.h"
#include "data/hdf5_image.h"
#include "data/hdf5_io.h"
#include "data/sha256.h"
#include "kernels/base/error.h"

namespace qm {

namespace {

constexpr const char* kFormat = "quadmamba-checkpoint";

struct TensorGroup {
  const char* path;
  std::vector<NamedTensor> Checkpoint::*tensors;
};

constexpr std::array<TensorGroup, 4> kGroups = {{{"model", &Checkpoint::model},
                                                 {"ema", &Checkpoint::ema},
                                                 {"optimizer/exp_avg", &Checkpoint::exp_avg},
                                                 {"optimizer/exp_avg_sq", &Checkpoint::exp_avg_sq}}};

/// Calls visit(name, field) for each field of a TrainingState.
template <class State, class Visit>
void for_each_field(State& state, Visit&& visit) {
  visit("step", state.step);
  visit("epoch", state.epoch);
  visit("step_in_epoch", state.step_in_epoch);
  visit("seed", state.seed);
  visit("best_top1", state.best_top1);
  visit("best_step", state.best_step);
  visit("ema_updates", state.ema_updates);
  visit("evaluation_pending", state.evaluation_pending);
  visit("world_size", state.world_size);
  visit("global_batch", state.global_batch);
  visit("metrics_lines", state.metrics_lines);
  visit("data_digest", state.data_digest);
  visit("val_digest", state.val_digest);
}

std::vector<NamedTensor> sorted_by_name(std::vector<NamedTensor> tensors) {
  const auto name = [](const NamedTensor& tensor) -> const std::string& { return tensor.name; };
  std::ranges::sort(tensors, {}, name);
  const auto twice = std::ranges::adjacent_find(tensors, {}, name);
  if (twice != tensors.end()) throw Error(concat("two tensors are named '", twice->name, "'"));
  return tensors;
}

Tensor on_cpu(const Tensor& tensor) {
  if (tensor.device().type == DeviceType::kCpu) return tensor;
  Tensor copy = Tensor::empty(tensor.shape(), tensor.dtype());
  copy.copy_from(tensor);
  return copy;
}

// ---- writing -------------------------------------------------------------------------------------------------------

void write_tensor(hid_t group, const NamedTensor& named) {
  QM_CHECK(!named.name.empty() && named.name.find('/') == std::string::npos, Error, "tensor name '", named.name,
           "': expected a name without '/'");
  QM_CHECK(named.tensor.defined(), Error, "tensor '", named.name, "' is undefined");
  const Tensor tensor = on_cpu(named.tensor);
  const std::vector<hsize_t> shape(tensor.shape().begin(), tensor.shape().end());
  visit_real(tensor.dtype(), named.name.c_str(),
             [&]<class T>() { write_dataset<T>(group, named.name, shape, tensor.data<T>()); });
}

void write_contents(hid_t file, const Checkpoint& checkpoint) {
  write_text_attribute(file, "format", kFormat);
  write_attribute<std::int64_t>(file, "version", kFormatVersion);
  const Hdf5Id optimizer = create_group(file, "optimizer");
  for (const TensorGroup& group : kGroups) {
    const Hdf5Id id = create_group(file, group.path);
    for (const NamedTensor& named : sorted_by_name(checkpoint.*group.tensors)) write_tensor(id, named);
  }
  const Hdf5Id state = create_group(file, "state");
  for_each_field(checkpoint.state, [&](const char* name, auto value) { write_attribute(state, name, value); });
  write_text(file, "recipe", checkpoint.recipe);
  write_text(file, "revision", checkpoint.revision);
  write_texts(file, "class_names", checkpoint.class_names);
}

// ---- reading -------------------------------------------------------------------------------------------------------

template <class T>
Tensor read_as(hid_t dataset, const std::string& name, Shape shape) {
  Tensor tensor = Tensor::empty(std::move(shape), dtype_of_v<T>);
  read_values<T>(dataset, name, tensor.data<T>());
  return tensor;
}

Tensor read_tensor(hid_t group, const std::string& name) {
  const Hdf5Id dataset = open_dataset(group, name);
  const std::vector<hsize_t> extents = shape_of(dataset);
  const Shape shape(extents.begin(), extents.end());
  const Hdf5Id type(QM_HDF5(H5Dget_type(dataset)));
  const bool is_double = QM_HDF5(H5Tequal(type, hdf5_type<double>())) > 0;
  return is_double ? read_as<double>(dataset, name, shape) : read_as<float>(dataset, name, shape);
}

Checkpoint read_contents(hid_t file) {
  const std::string format = read_text_attribute(file, "format");
  QM_CHECK(format == kFormat, IoError, "has format '", format, "', expected '", kFormat, "'");
  Checkpoint checkpoint;
  const Hdf5Id optimizer = open_group(file, "optimizer");
  for (const TensorGroup& group : kGroups) {
    const Hdf5Id id = open_group(file, group.path);
    for (std::string& name : names_in(id)) {
      Tensor tensor = read_tensor(id, name);
      (checkpoint.*group.tensors).push_back({std::move(name), std::move(tensor)});
    }
  }
  const Hdf5Id state = open_group(file, "state");
  for_each_field(checkpoint.state, [&]<class T>(const char* name, T& value) {
    const bool is_newer = name == std::string_view("evaluation_pending") || name == std::string_view("val_digest");
    if (is_newer && !has_attribute(state, name)) return;  // the file is older than the field
    value = read_attribute<T>(state, name);
  });
  checkpoint.recipe = read_text(file, "recipe");
  checkpoint.revision = read_text(file, "revision");
  checkpoint.class_names = read_texts(file, "class_names");
  return checkpoint;
}

}  // namespace

void write_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  MemoryImage image;
  naming_file(path, [&] {
    const Hdf5Session session;
    Hdf5Id file = create_hdf5(image);
    write_contents(file, checkpoint);
    close_hdf5(std::move(file));
  });
  AtomicFile file(path);
  write_guarded(file, FileKind::kCheckpoint, image);
  file.finish();
  try {  // before it takes the place of an older one, which may be the only good one
    verify_guarded(InputFile(file.temporary_path()), FileKind::kCheckpoint);
  } catch (const IoError& error) {
    throw IoError(concat(path, ": not written: ", error.what()));
  }
  file.publish();
}

Checkpoint read_checkpoint(const std::string& path) {
  const InputFile file(path);
  MemoryImage image;
  read_guarded(file, FileKind::kCheckpoint, image);
  return naming_file(path, [&] {
    const Hdf5Session session;
    const Hdf5Id hdf5 = open_hdf5(image);
    return read_contents(hdf5);
  });
}

std::string weights_digest(const std::vector<NamedTensor>& tensors) {
  Sha256 hash;
  for (const NamedTensor& named : sorted_by_name(tensors)) {
    const Tensor tensor = on_cpu(named.tensor);
    hash.update_text(named.name);
    hash.update_text(name_of(tensor.dtype()));
    hash.update_text(to_string(tensor.shape()));
    hash.update({static_cast<const std::uint8_t*>(tensor.raw()), tensor.bytes()});
  }
  return hash.hex_digest();
}

}  // namespace qm
