#include <utility>

#include "data/crc32c.h"
#include "data/file.h"
#include "data/guarded_file.h"
#include "data/shard.h"
#include "data/shard_index.h"
#include "kernels/base/error.h"

namespace qm {

struct ShardWriter::Impl {
  explicit Impl(const std::string& path) : file(path), data_begin(shard_data_begin()) {}

  AtomicFile file;
  std::uint64_t data_begin;
  ShardIndex index;
};

ShardWriter::ShardWriter(const std::string& folder, const std::string& split, std::int64_t number, std::int64_t count,
                         std::vector<std::string> class_names)
    : impl_(std::make_unique<Impl>(folder + "/" + shard_name(split, number, count))) {
  impl_->index.split = split;
  impl_->index.class_names = std::move(class_names);
}

ShardWriter::~ShardWriter() = default;

const std::string& ShardWriter::path() const {
  return impl_->file.path();
}
std::int64_t ShardWriter::size() const {
  return impl_->index.samples();
}
std::uint64_t ShardWriter::data_bytes() const {
  return impl_->index.offset.back();
}

void ShardWriter::append(const ShardSample& sample) {
  ShardIndex& index = impl_->index;
  const auto fail = [&](const auto&... cause) {
    throw IoError(concat(path(), ": sample with id ", sample.id, cause...));
  };
  const std::optional<Encoding> encoding = encoding_of(sample.bytes);
  if (!encoding) fail(" is neither JPEG nor PNG");
  if (sample.label < 0 || static_cast<std::size_t>(sample.label) >= index.class_names.size()) {
    fail(" has label ", sample.label, ", but there are ", index.class_names.size(), " classes");
  }
  if (sample.height < 1 || sample.height > UINT16_MAX || sample.width < 1 || sample.width > UINT16_MAX) {
    fail(" is ", sample.height, "×", sample.width, " pixels; a side has 1 to ", UINT16_MAX);
  }

  impl_->file.write(impl_->data_begin + data_bytes(), sample.bytes);
  index.offset.push_back(data_bytes() + sample.bytes.size());
  index.label.push_back(sample.label);
  index.crc32c.push_back(crc32c(sample.bytes));
  index.encoding.push_back(static_cast<std::uint8_t>(*encoding));
  index.size.push_back({static_cast<std::uint16_t>(sample.height), static_cast<std::uint16_t>(sample.width)});
  index.id.push_back(sample.id);
}

void ShardWriter::finish() {
  QM_CHECK(size() > 0, IoError, path(), ": would be a shard without samples");
  MemoryImage image;
  write_shard_index(image, impl_->index);
  QM_CHECK(impl_->index.data.begin == impl_->data_begin, IoError, path(), ": HDF5 wants the images at byte ",
           impl_->index.data.begin, ", they were written to byte ", impl_->data_begin);
  write_guarded(impl_->file, FileKind::kShard, image, impl_->index.data);
  impl_->file.finish();
}

void ShardWriter::publish() {
  impl_->file.publish();
}

}  // namespace qm
