#include "data/shard_index.h"

#include <algorithm>
#include <utility>

#include "data/hdf5_image.h"
#include "data/hdf5_io.h"
#include "data/shard.h"
#include "kernels/base/error.h"

namespace qm {

namespace {

constexpr const char* kFormat = "quadmamba-shard";

/// Creates `data`; first of all in the file, so that its place depends on nothing.
ByteRange create_data(hid_t file, std::uint64_t bytes) {
  const Hdf5Id data = create_dataset(file, "data", hdf5_type<std::uint8_t>(), {bytes}, true);
  const haddr_t begin = H5Dget_offset(data);
  QM_CHECK(begin != HADDR_UNDEF, IoError, "HDF5 gave the images no place");
  return {begin, begin + bytes};
}

ByteRange find_data(hid_t file) {
  const Hdf5Id data = open_dataset(file, "data");
  const std::vector<hsize_t> shape = shape_of(data);
  const haddr_t begin = H5Dget_offset(data);
  QM_CHECK(shape.size() == 1 && begin != HADDR_UNDEF && H5Dget_storage_size(data) == shape[0], IoError,
           "'data' is not one run of bytes");
  return {begin, begin + shape[0]};
}

ShardIndex read_index(hid_t file) {
  ShardIndex index;
  const std::string format = read_text_attribute(file, "format");
  QM_CHECK(format == kFormat, IoError, "has format '", format, "', expected '", kFormat, "'");
  index.split = read_text_attribute(file, "split");
  index.class_names = read_texts(file, "class_names");
  const std::int64_t samples = read_attribute<std::int64_t>(file, "num_samples");
  QM_CHECK(samples > 0, IoError, "num_samples is ", samples);
  const auto n = static_cast<hsize_t>(samples);
  index.offset = read_dataset<std::uint64_t>(file, "offset", {n + 1});
  index.label = read_dataset<std::int32_t>(file, "label", {n});
  index.crc32c = read_dataset<std::uint32_t>(file, "crc32c", {n});
  index.encoding = read_dataset<std::uint8_t>(file, "encoding", {n});
  index.id = read_dataset<std::uint64_t>(file, "id", {n});
  const std::vector<std::uint16_t> sides = read_dataset<std::uint16_t>(file, "size", {n, 2});
  for (hsize_t i = 0; i < n; ++i) index.size.push_back({sides[2 * i], sides[2 * i + 1]});
  index.data = find_data(file);
  return index;
}

/// A checksum tells that a shard is what was written, this that what was written makes sense.
void check_index(const ShardIndex& index, ByteRange unguarded) {
  QM_CHECK(index.data.begin == unguarded.begin && index.data.end == unguarded.end, IoError, "'data' lies at bytes ",
           index.data.begin, " to ", index.data.end, ", its guard says ", unguarded.begin, " to ", unguarded.end);
  QM_CHECK(index.offset.front() == 0 && index.offset.back() == index.data.size() &&
               std::is_sorted(index.offset.begin(), index.offset.end()),
           IoError, "'offset' does not divide the ", index.data.size(), " bytes of 'data'");
  const auto classes = static_cast<std::int64_t>(index.class_names.size());
  for (std::size_t i = 0; i < index.label.size(); ++i) {
    QM_CHECK(index.label[i] >= 0 && index.label[i] < classes, IoError, "sample ", i, " (id ", index.id[i],
             ") has label ", index.label[i], ", but there are ", classes, " classes");
    QM_CHECK(index.encoding[i] <= static_cast<std::uint8_t>(Encoding::kPng), IoError, "sample ", i, " (id ",
             index.id[i], ") has unknown encoding ", int{index.encoding[i]});
    QM_CHECK(index.size[i][0] > 0 && index.size[i][1] > 0, IoError, "sample ", i, " (id ", index.id[i],
             ") has no pixels");
  }
}

}  // namespace

std::uint64_t shard_data_begin() {
  const Hdf5Session session;
  MemoryImage image;
  const Hdf5Id file = create_hdf5(image);
  return create_data(file, 1).begin;
}

void write_shard_index(MemoryImage& image, ShardIndex& index) {
  const Hdf5Session session;
  Hdf5Id file = create_hdf5(image);
  index.data = create_data(file, index.offset.back());
  const auto n = static_cast<hsize_t>(index.samples());
  write_text_attribute(file, "format", kFormat);
  write_attribute<std::int64_t>(file, "version", kFormatVersion);
  write_text_attribute(file, "split", index.split);
  write_attribute<std::int64_t>(file, "num_samples", index.samples());
  write_dataset(file, "offset", {n + 1}, index.offset.data());
  write_dataset(file, "label", {n}, index.label.data());
  write_dataset(file, "crc32c", {n}, index.crc32c.data());
  write_dataset(file, "encoding", {n}, index.encoding.data());
  write_dataset(file, "size", {n, 2}, index.size.data()->data());
  write_dataset(file, "id", {n}, index.id.data());
  write_texts(file, "class_names", index.class_names);
  close_hdf5(std::move(file));
}

ShardIndex read_shard_index(const InputFile& file) {
  MemoryImage image;
  const Guard guard = read_guarded(file, FileKind::kShard, image);
  return naming_file(file.path(), [&] {
    const Hdf5Session session;
    const Hdf5Id hdf5 = open_hdf5(image);
    ShardIndex index = read_index(hdf5);
    check_index(index, guard.unguarded);
    return index;
  });
}

}  // namespace qm
