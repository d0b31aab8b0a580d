// Datasets, attributes and text of an HDF5 file in terms of C++ values. IoErrors name the object, not the file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/hdf5_handle.h"

namespace qm {

/// The type of T in a file: little-endian whatever the machine. T is one of the fixed-width integers, float, double.
template <class T>
hid_t hdf5_type();
template <>
hid_t hdf5_type<std::uint8_t>();
template <>
hid_t hdf5_type<std::uint16_t>();
template <>
hid_t hdf5_type<std::uint32_t>();
template <>
hid_t hdf5_type<std::uint64_t>();
template <>
hid_t hdf5_type<std::int32_t>();
template <>
hid_t hdf5_type<std::int64_t>();
template <>
hid_t hdf5_type<float>();
template <>
hid_t hdf5_type<double>();

/// Creates a dataset: contiguous, without time stamps. `early` allots its space at once and never fills it.
Hdf5Id create_dataset(hid_t where, const std::string& name, hid_t type, const std::vector<hsize_t>& shape,
                      bool early = false);
Hdf5Id create_group(hid_t where, const std::string& name);
Hdf5Id open_dataset(hid_t where, const std::string& name);
Hdf5Id open_group(hid_t where, const std::string& name);

std::vector<hsize_t> shape_of(hid_t dataset);
/// Names of a group's members, sorted.
std::vector<std::string> names_in(hid_t group);

template <class T>
void write_dataset(hid_t where, const std::string& name, const std::vector<hsize_t>& shape, const T* values);
/// Throws IoError unless the dataset has exactly this type and shape.
template <class T>
std::vector<T> read_dataset(hid_t where, const std::string& name, const std::vector<hsize_t>& shape);
/// Reads a whole dataset of type T into memory for as many values as shape_of() says.
template <class T>
void read_values(hid_t dataset, const std::string& name, T* values);

template <class T>
void write_attribute(hid_t where, const std::string& name, T value);
template <class T>
T read_attribute(hid_t where, const std::string& name);
bool has_attribute(hid_t where, const std::string& name);

/// Text is UTF-8 of variable length: h5py reads attributes as str.
void write_text_attribute(hid_t where, const std::string& name, const std::string& text);
std::string read_text_attribute(hid_t where, const std::string& name);
void write_text(hid_t where, const std::string& name, const std::string& text);
std::string read_text(hid_t where, const std::string& name);
/// A dataset of one dimension, a text an element.
void write_texts(hid_t where, const std::string& name, const std::vector<std::string>& texts);
std::vector<std::string> read_texts(hid_t where, const std::string& name);

}  // namespace qm
