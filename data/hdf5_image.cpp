#include "data/hdf5_image.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <new>

#include "data/guarded_file.h"

#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif

namespace qm {

namespace {

/// HDF5's view of an open image: its own part first, as the driver interface asks.
struct ImageFile {
  H5FD_t base;
  MemoryImage* image;
  haddr_t end_of_allocation;
};

/// What a file access property list carries to the driver.
struct ImageAccess {
  MemoryImage* image;
};

ImageFile& image_file(H5FD_t* file) {
  return *reinterpret_cast<ImageFile*>(file);
}
const ImageFile& image_file(const H5FD_t* file) {
  return *reinterpret_cast<const ImageFile*>(file);
}

/// Exceptions must not cross libhdf5, which is C; to it they are failures (and out of memory is the only one).
template <class Body>
herr_t guarded(Body&& body) {
  try {
    body();
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}

H5FD_t* open_image(const char*, unsigned flags, hid_t access, haddr_t) {
  const auto* info = static_cast<const ImageAccess*>(H5Pget_driver_info(access));
  if (info == nullptr) return nullptr;
  if ((flags & H5F_ACC_TRUNC) != 0) info->image->resize(0);
  auto* file = new (std::nothrow) ImageFile{};
  if (file == nullptr) return nullptr;
  file->image = info->image;
  return &file->base;
}

herr_t close_image(H5FD_t* file) {
  delete &image_file(file);
  return 0;
}

herr_t query_features(const H5FD_t*, unsigned long* flags) {
  *flags = 0;  // no aggregation: each piece of the file lies where the one before it ends
  return 0;
}

haddr_t end_of_allocation(const H5FD_t* file, H5FD_mem_t) {
  return image_file(file).end_of_allocation;
}

herr_t set_end_of_allocation(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  image_file(file).end_of_allocation = address;
  return 0;
}

haddr_t end_of_image(const H5FD_t* file, H5FD_mem_t) {
  return image_file(file).image->size();
}

herr_t read_image(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* buffer) {
  return guarded([&] { image_file(file).image->read(address, {static_cast<std::uint8_t*>(buffer), size}); });
}

herr_t write_image(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t size, const void* buffer) {
  return guarded([&] { image_file(file).image->write(address, {static_cast<const std::uint8_t*>(buffer), size}); });
}

herr_t truncate_image(H5FD_t* file, hid_t, hbool_t) {
  return guarded([&] { image_file(file).image->resize(image_file(file).end_of_allocation); });
}

H5FD_class_t make_driver() {
  H5FD_class_t driver{};
#if H5_VERSION_GE(1, 13, 0)
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(H5_VFD_RESERVED + 1);
#endif
  driver.name = "quadmamba_memory_image";
  driver.maxaddr = HADDR_MAX;
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(ImageAccess);
  driver.open = open_image;
  driver.close = close_image;
  driver.query = query_features;
  driver.get_eoa = end_of_allocation;
  driver.set_eoa = set_end_of_allocation;
  driver.get_eof = end_of_image;
  driver.read = read_image;
  driver.write = write_image;
  driver.truncate = truncate_image;
  std::fill(std::begin(driver.fl_map), std::end(driver.fl_map), H5FD_MEM_SUPER);
  return driver;
}

hid_t registered_driver() {
  static const H5FD_class_t driver = make_driver();
  static const hid_t id = QM_HDF5(H5FDregister(&driver));
  return id;
}

Hdf5Id access_to(MemoryImage& image) {
  Hdf5Id access(QM_HDF5(H5Pcreate(H5P_FILE_ACCESS)));
  const ImageAccess info{&image};
  QM_HDF5(H5Pset_driver(access, registered_driver(), &info));
  return access;
}

constexpr const char* kNoName = "memory image";  // HDF5 insists on a name

}  // namespace

Hdf5Id create_hdf5(MemoryImage& image) {
  const Hdf5Id access = access_to(image);
  const Hdf5Id creation(QM_HDF5(H5Pcreate(H5P_FILE_CREATE)));
  QM_HDF5(H5Pset_userblock(creation, kGuardBytes));
  QM_HDF5(H5Pset_obj_track_times(creation, false));
  return Hdf5Id(QM_HDF5(H5Fcreate(kNoName, H5F_ACC_TRUNC, creation, access)));
}

Hdf5Id open_hdf5(MemoryImage& image) {
  const Hdf5Id access = access_to(image);
  return Hdf5Id(QM_HDF5(H5Fopen(kNoName, H5F_ACC_RDONLY, access)));
}

void close_hdf5(Hdf5Id file) {
  QM_HDF5(H5Fclose(file.release()));
}

}  // namespace qm
