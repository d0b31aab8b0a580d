#include "data/hdf5_io.h"

#include <algorithm>

#include "kernels/base/error.h"

namespace qm {

namespace {

Hdf5Id dataspace(const std::vector<hsize_t>& shape) {
  if (shape.empty()) return Hdf5Id(QM_HDF5(H5Screate(H5S_SCALAR)));
  return Hdf5Id(QM_HDF5(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr)));
}

std::string describe(const std::vector<hsize_t>& shape) {
  std::string text = "(";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) text += concat(axis == 0 ? "" : ", ", shape[axis]);
  return text + ")";
}

std::vector<hsize_t> shape_of_space(hid_t space) {
  const hid_t rank = QM_HDF5(H5Sget_simple_extent_ndims(space));
  std::vector<hsize_t> shape(static_cast<std::size_t>(rank));
  if (rank > 0) QM_HDF5(H5Sget_simple_extent_dims(space, shape.data(), nullptr));
  return shape;
}

void check_type(hid_t found, hid_t expected, const std::string& name) {
  QM_CHECK(QM_HDF5(H5Tequal(found, expected)) > 0, IoError, "'", name, "' has another element type than expected");
}

Hdf5Id text_type() {
  Hdf5Id type(QM_HDF5(H5Tcopy(H5T_C_S1)));
  QM_HDF5(H5Tset_size(type, H5T_VARIABLE));
  QM_HDF5(H5Tset_cset(type, H5T_CSET_UTF8));
  return type;
}

/// Reads `count` texts; `read` fills an array of pointers, to memory that HDF5 allots and takes back.
template <class Read>
std::vector<std::string> read_variable_texts(hid_t type, hid_t space, std::size_t count, Read&& read) {
  std::vector<char*> pointers(count, nullptr);
  if (count > 0) read(pointers.data());
  std::vector<std::string> texts;
  for (const char* text : pointers) texts.emplace_back(text == nullptr ? "" : text);
  if (count > 0) QM_HDF5(H5Dvlen_reclaim(type, space, H5P_DEFAULT, pointers.data()));
  return texts;
}

void write_text_array(hid_t where, const std::string& name, const std::vector<hsize_t>& shape,
                      const std::vector<std::string>& texts) {
  const Hdf5Id type = text_type();
  const Hdf5Id dataset = create_dataset(where, name, type, shape);
  std::vector<const char*> pointers;
  for (const std::string& text : texts) pointers.push_back(text.c_str());
  if (!pointers.empty()) QM_HDF5(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()));
}

std::vector<std::string> read_text_array(hid_t where, const std::string& name, std::size_t rank) {
  const Hdf5Id dataset = open_dataset(where, name);
  const Hdf5Id space(QM_HDF5(H5Dget_space(dataset)));
  const Hdf5Id found(QM_HDF5(H5Dget_type(dataset)));
  const Hdf5Id type = text_type();
  check_type(found, type, name);
  const std::vector<hsize_t> shape = shape_of_space(space);
  QM_CHECK(shape.size() == rank, IoError, "'", name, "' has shape ", describe(shape), ", expected ", rank, " axes");
  return read_variable_texts(type, space, shape.empty() ? 1 : shape[0], [&](char** pointers) {
    QM_HDF5(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers));
  });
}

Hdf5Id open_attribute(hid_t where, const std::string& name, hid_t type) {
  QM_CHECK(QM_HDF5(H5Aexists(where, name.c_str())) > 0, IoError, "attribute '", name, "' is missing");
  Hdf5Id attribute(QM_HDF5(H5Aopen(where, name.c_str(), H5P_DEFAULT)));
  const Hdf5Id found(QM_HDF5(H5Aget_type(attribute)));
  check_type(found, type, name);
  const Hdf5Id space(QM_HDF5(H5Aget_space(attribute)));
  QM_CHECK(shape_of_space(space).empty(), IoError, "attribute '", name, "' is not a single value");
  return attribute;
}

}  // namespace

template <>
hid_t hdf5_type<std::uint8_t>() {
  return H5T_STD_U8LE;
}
template <>
hid_t hdf5_type<std::uint16_t>() {
  return H5T_STD_U16LE;
}
template <>
hid_t hdf5_type<std::uint32_t>() {
  return H5T_STD_U32LE;
}
template <>
hid_t hdf5_type<std::uint64_t>() {
  return H5T_STD_U64LE;
}
template <>
hid_t hdf5_type<std::int32_t>() {
  return H5T_STD_I32LE;
}
template <>
hid_t hdf5_type<std::int64_t>() {
  return H5T_STD_I64LE;
}
template <>
hid_t hdf5_type<float>() {
  return H5T_IEEE_F32LE;
}
template <>
hid_t hdf5_type<double>() {
  return H5T_IEEE_F64LE;
}

Hdf5Id create_dataset(hid_t where, const std::string& name, hid_t type, const std::vector<hsize_t>& shape, bool early) {
  const Hdf5Id space = dataspace(shape);
  const Hdf5Id creation(QM_HDF5(H5Pcreate(H5P_DATASET_CREATE)));
  QM_HDF5(H5Pset_obj_track_times(creation, false));
  if (early) {
    QM_HDF5(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY));
    QM_HDF5(H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER));
  }
  return Hdf5Id(QM_HDF5(H5Dcreate2(where, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT)));
}

Hdf5Id create_group(hid_t where, const std::string& name) {
  const Hdf5Id creation(QM_HDF5(H5Pcreate(H5P_GROUP_CREATE)));
  QM_HDF5(H5Pset_obj_track_times(creation, false));
  return Hdf5Id(QM_HDF5(H5Gcreate2(where, name.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT)));
}

Hdf5Id open_dataset(hid_t where, const std::string& name) {
  QM_CHECK(QM_HDF5(H5Lexists(where, name.c_str(), H5P_DEFAULT)) > 0, IoError, "dataset '", name, "' is missing");
  return Hdf5Id(QM_HDF5(H5Dopen2(where, name.c_str(), H5P_DEFAULT)));
}

Hdf5Id open_group(hid_t where, const std::string& name) {
  QM_CHECK(QM_HDF5(H5Lexists(where, name.c_str(), H5P_DEFAULT)) > 0, IoError, "group '", name, "' is missing");
  return Hdf5Id(QM_HDF5(H5Gopen2(where, name.c_str(), H5P_DEFAULT)));
}

std::vector<hsize_t> shape_of(hid_t dataset) {
  const Hdf5Id space(QM_HDF5(H5Dget_space(dataset)));
  return shape_of_space(space);
}

std::vector<std::string> names_in(hid_t group) {
  H5G_info_t info;
  QM_HDF5(H5Gget_info(group, &info));
  std::vector<std::string> names(info.nlinks);
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    const auto name_at = [&](char* text, std::size_t size) {
      return QM_HDF5(H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, text, size, H5P_DEFAULT));
    };
    names[i].resize(static_cast<std::size_t>(name_at(nullptr, 0)));
    name_at(names[i].data(), names[i].size() + 1);
  }
  std::sort(names.begin(), names.end());
  return names;
}

template <class T>
void write_dataset(hid_t where, const std::string& name, const std::vector<hsize_t>& shape, const T* values) {
  const Hdf5Id dataset = create_dataset(where, name, hdf5_type<T>(), shape);
  QM_HDF5(H5Dwrite(dataset, hdf5_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values));
}

template <class T>
void read_values(hid_t dataset, const std::string& name, T* values) {
  const Hdf5Id type(QM_HDF5(H5Dget_type(dataset)));
  check_type(type, hdf5_type<T>(), name);
  QM_HDF5(H5Dread(dataset, hdf5_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values));
}

template <class T>
std::vector<T> read_dataset(hid_t where, const std::string& name, const std::vector<hsize_t>& shape) {
  const Hdf5Id dataset = open_dataset(where, name);
  const std::vector<hsize_t> found = shape_of(dataset);
  QM_CHECK(found == shape, IoError, "'", name, "' has shape ", describe(found), ", expected ", describe(shape));
  hsize_t count = 1;
  for (const hsize_t extent : shape) count *= extent;
  std::vector<T> values(count);
  read_values(dataset, name, values.data());
  return values;
}

template <class T>
void write_attribute(hid_t where, const std::string& name, T value) {
  const Hdf5Id space = dataspace({});
  const Hdf5Id attribute(QM_HDF5(H5Acreate2(where, name.c_str(), hdf5_type<T>(), space, H5P_DEFAULT, H5P_DEFAULT)));
  QM_HDF5(H5Awrite(attribute, hdf5_type<T>(), &value));
}

bool has_attribute(hid_t where, const std::string& name) {
  return QM_HDF5(H5Aexists(where, name.c_str())) > 0;
}

template <class T>
T read_attribute(hid_t where, const std::string& name) {
  const Hdf5Id attribute = open_attribute(where, name, hdf5_type<T>());
  T value;
  QM_HDF5(H5Aread(attribute, hdf5_type<T>(), &value));
  return value;
}

void write_text_attribute(hid_t where, const std::string& name, const std::string& text) {
  const Hdf5Id space = dataspace({});
  const Hdf5Id type = text_type();
  const Hdf5Id attribute(QM_HDF5(H5Acreate2(where, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT)));
  const char* pointer = text.c_str();
  QM_HDF5(H5Awrite(attribute, type, &pointer));
}

std::string read_text_attribute(hid_t where, const std::string& name) {
  const Hdf5Id type = text_type();
  const Hdf5Id attribute = open_attribute(where, name, type);
  const Hdf5Id space = dataspace({});
  return read_variable_texts(type, space, 1, [&](char** pointer) { QM_HDF5(H5Aread(attribute, type, pointer)); })[0];
}

void write_text(hid_t where, const std::string& name, const std::string& text) {
  write_text_array(where, name, {}, {text});
}

std::string read_text(hid_t where, const std::string& name) {
  return read_text_array(where, name, 0)[0];
}

void write_texts(hid_t where, const std::string& name, const std::vector<std::string>& texts) {
  write_text_array(where, name, {texts.size()}, texts);
}

std::vector<std::string> read_texts(hid_t where, const std::string& name) {
  return read_text_array(where, name, 1);
}

#define QM_INSTANTIATE(T)                                                                           \
  template void write_dataset<T>(hid_t, const std::string&, const std::vector<hsize_t>&, const T*); \
  template std::vector<T> read_dataset<T>(hid_t, const std::string&, const std::vector<hsize_t>&);  \
  template void read_values<T>(hid_t, const std::string&, T*);                                      \
  template void write_attribute<T>(hid_t, const std::string&, T);                                   \
  template T read_attribute<T>(hid_t, const std::string&);
QM_INSTANTIATE(std::uint8_t)
QM_INSTANTIATE(std::uint16_t)
QM_INSTANTIATE(std::uint32_t)
QM_INSTANTIATE(std::uint64_t)
QM_INSTANTIATE(std::int32_t)
QM_INSTANTIATE(std::int64_t)
QM_INSTANTIATE(float)
QM_INSTANTIATE(double)
#undef QM_INSTANTIATE

}  // namespace qm
