#include "tests/support/golden.h"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace qm::test {
namespace {

[[noreturn]] void fail(const std::string& what) { throw IoError("golden file: " + what); }

Shape shape_of(hid_t space) {
  const int rank = H5Sget_simple_extent_ndims(space);
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  if (rank > 0) H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  return Shape(extents.begin(), extents.end());
}

GoldenArray read_array(hid_t dataset) {
  const hid_t space = H5Dget_space(dataset);
  const hid_t type = H5Dget_type(dataset);
  GoldenArray array;
  array.shape = shape_of(space);
  array.values.resize(static_cast<std::size_t>(count_of(array.shape)));
  array.stored_float32 = H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == 4;
  if (H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, array.values.data()) < 0) fail("unreadable");
  H5Tclose(type);
  H5Sclose(space);
  return array;
}

std::string read_text(hid_t attribute, hid_t type) {
  std::string text;
  if (H5Tis_variable_str(type) > 0) {
    char* value = nullptr;
    H5Aread(attribute, type, &value);
    text = value ? value : "";
    H5free_memory(value);
  } else {
    text.resize(H5Tget_size(type));
    H5Aread(attribute, type, text.data());
    text.resize(std::char_traits<char>::length(text.c_str()));
  }
  return text;
}

}  // namespace

// ---- arrays ----------------------------------------------------------------------------------------------------------

template <class T>
Tensor GoldenArray::tensor(Device device) const {
  return Tensor::from(std::vector<T>(values.begin(), values.end()), shape).to(device);
}
template Tensor GoldenArray::tensor<float>(Device) const;
template Tensor GoldenArray::tensor<double>(Device) const;
template Tensor GoldenArray::tensor<std::int32_t>(Device) const;

GoldenArray GoldenArray::at(std::int64_t index) const {
  GoldenArray part{Shape(shape.begin() + 1, shape.end()), {}, stored_float32};
  const std::int64_t count = count_of(part.shape);
  part.values.assign(values.begin() + index * count, values.begin() + (index + 1) * count);
  return part;
}

double GoldenArray::norm() const {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

// ---- files -----------------------------------------------------------------------------------------------------------

GoldenFile::GoldenFile(const std::string& path) : name_(std::filesystem::path(path).filename()) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file < 0) fail("cannot open " + path);

  const auto visit_attribute = [](hid_t object, const char* name, const H5A_info_t*, void* data) -> herr_t {
    auto& self = *static_cast<GoldenFile*>(data);
    const hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    const hid_t type = H5Aget_type(attribute);
    const hid_t space = H5Aget_space(attribute);
    if (H5Tget_class(type) == H5T_STRING) {
      self.texts_[name] = read_text(attribute, type);
    } else {
      auto& values = self.numbers_[name];
      values.resize(static_cast<std::size_t>(count_of(shape_of(space))));
      H5Aread(attribute, H5T_NATIVE_DOUBLE, values.data());
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
    return 0;
  };
  H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, visit_attribute, this);

  const auto visit_object = [](hid_t root, const char* name, const H5O_info_t* info, void* data) -> herr_t {
    if (info->type != H5O_TYPE_DATASET) return 0;
    const hid_t dataset = H5Dopen2(root, name, H5P_DEFAULT);
    static_cast<GoldenFile*>(data)->arrays_[name] = read_array(dataset);
    H5Dclose(dataset);
    return 0;
  };
  H5Ovisit(file, H5_INDEX_NAME, H5_ITER_NATIVE, visit_object, this);
  H5Fclose(file);
}

std::string GoldenFile::text(const std::string& attribute) const {
  if (!texts_.contains(attribute)) fail(name_ + " has no attribute " + attribute);
  return texts_.at(attribute);
}

std::vector<double> GoldenFile::numbers(const std::string& attribute) const {
  if (!numbers_.contains(attribute)) fail(name_ + " has no attribute " + attribute);
  return numbers_.at(attribute);
}

const GoldenArray& GoldenFile::array(const std::string& dataset) const {
  if (!arrays_.contains(dataset)) fail(name_ + " has no dataset " + dataset);
  return arrays_.at(dataset);
}

std::map<std::string, GoldenArray> GoldenFile::group(const std::string& group) const {
  std::map<std::string, GoldenArray> members;
  for (const auto& [name, array] : arrays_) {
    if (name.starts_with(group + "/")) members[name.substr(group.size() + 1)] = array;
  }
  return members;
}

std::vector<std::string> golden_folders() {
  std::vector<std::string> folders;
  const char* shared = QM_SOURCE_DIR "/../shared/golden";
  if (std::filesystem::is_directory(shared)) folders.emplace_back(shared);
  const char* named = std::getenv("QM_GOLDEN_DIR");
  if (!named || !*named) return folders;
  if (!std::filesystem::is_directory(named)) fail(std::string("QM_GOLDEN_DIR: no such folder: ") + named);
  if (folders.empty() || !std::filesystem::equivalent(folders.front(), named)) folders.emplace_back(named);
  return folders;
}

std::vector<std::string> golden_files() {
  std::vector<std::string> files;
  for (const std::string& folder : golden_folders()) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ".h5") files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> golden_files(const std::string& kind) {
  std::vector<std::string> files;
  for (const std::string& path : golden_files()) {
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) fail("cannot open " + path);
    const hid_t attribute = H5Aopen(file, "kind", H5P_DEFAULT);
    if (attribute < 0) fail(path + " has no attribute kind");
    const hid_t type = H5Aget_type(attribute);
    if (read_text(attribute, type) == kind) files.push_back(path);
    H5Tclose(type);
    H5Aclose(attribute);
    H5Fclose(file);
  }
  return files;
}

// ---- comparison ------------------------------------------------------------------------------------------------------

void GoldenComparison::expect(const std::string& what, const Tensor& actual, const GoldenArray& reference,
                              Limit limit) {
  ASSERT_TRUE(actual.defined()) << file_ << ": " << what << " was not computed";
  ASSERT_EQ(actual.count(), static_cast<std::int64_t>(reference.values.size())) << file_ << ": " << what;
  const std::vector<double> values = actual.to(DType::kFloat64).to_vector<double>();
  double squares = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    squares += (values[i] - reference.values[i]) * (values[i] - reference.values[i]);
  }
  entries_.push_back({what, std::sqrt(squares), reference.norm(), reference.stored_float32, limit});
}

double GoldenComparison::allowed(const Entry& entry, double largest) const {
  if (precision_ == DType::kFloat64) {
    const double relative = (entry.limit == Limit::kGradient ? 1e-5 : 1e-6) + (entry.stored_float32 ? 2e-7 : 0);
    return relative * entry.reference;
  }
  if (precision_ == DType::kBFloat16) return (entry.limit == Limit::kLoss ? 1e-2 : 3e-2) * entry.reference;
  if (entry.limit != Limit::kGradient) return 1e-5 * entry.reference;
  return std::max(5e-4 * entry.reference, 1e-7 * largest);
}

void GoldenComparison::judge() const {
  ASSERT_FALSE(entries_.empty()) << file_ << ": nothing was compared";
  double largest = 0, worst_output = 0, worst_gradient = 0;
  for (const auto& entry : entries_) largest = std::max(largest, entry.reference);
  for (const auto& entry : entries_) {
    EXPECT_LE(entry.error, allowed(entry, largest))
        << file_ << ": " << entry.what << " is off by " << entry.error << " of norm " << entry.reference;
    const double relative = entry.error / std::max(entry.reference, 1e-300);
    double& worst = entry.limit == Limit::kGradient ? worst_gradient : worst_output;
    worst = std::max(worst, relative);
  }
  std::printf("  %-40s %3zu arrays, worst relative error: outputs %.1e, gradients %.1e\n", file_.c_str(),
              entries_.size(), worst_output, worst_gradient);
}

}  // namespace qm::test
