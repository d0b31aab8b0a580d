#include "data/shard.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iterator>
#include <string_view>
#include <system_error>

#include "data/crc32c.h"
#include "data/file.h"
#include "data/sha256.h"
#include "data/shard_index.h"
#include "kernels/base/error.h"

namespace qm {

namespace {

struct ShardNumber {
  std::int64_t number = 0, count = 0;
};

/// The five digits at the front of `text`, which are taken off it.
std::optional<std::int64_t> take_five_digits(std::string_view& text) {
  if (text.size() < 5) return std::nullopt;
  std::int64_t value = 0;
  for (const char digit : text.substr(0, 5)) {
    if (digit < '0' || digit > '9') return std::nullopt;
    value = 10 * value + (digit - '0');
  }
  text.remove_prefix(5);
  return value;
}

bool take_literal(std::string_view& text, std::string_view literal) {
  if (!text.starts_with(literal)) return false;
  text.remove_prefix(literal.size());
  return true;
}

/// Takes apart "<split>-00003-of-00016.h5"; nothing if `name` is something else.
std::optional<ShardNumber> parse_shard_name(std::string_view name, const std::string& split) {
  if (!take_literal(name, split) || !take_literal(name, "-")) return std::nullopt;
  const auto number = take_five_digits(name);
  if (!number || !take_literal(name, "-of-")) return std::nullopt;
  const auto count = take_five_digits(name);
  if (!count || name != ".h5") return std::nullopt;
  return ShardNumber{*number, *count};
}

/// Throws unless the names are shards 0 .. n − 1 of n.
void check_complete(const std::string& folder, const std::string& split, const std::vector<std::string>& names) {
  QM_CHECK(!names.empty(), IoError, folder, ": holds no shards of split '", split, "' (", split, "-*-of-*.h5)");
  const std::int64_t count = parse_shard_name(names.front(), split)->count;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const ShardNumber found = *parse_shard_name(names[i], split);
    QM_CHECK(found.count == count, IoError, folder, ": holds shards of two sets of split '", split,
             "': ", names.front(), " and ", names[i]);
    QM_CHECK(found.number == static_cast<std::int64_t>(i), IoError, folder, ": shard ",
             shard_name(split, static_cast<std::int64_t>(i), count), " is missing");
  }
  QM_CHECK(static_cast<std::int64_t>(names.size()) == count, IoError, folder, ": shard ",
           shard_name(split, static_cast<std::int64_t>(names.size()), count), " is missing");
}

/// The bytes of one sample, checked against their CRC.
void read_sample(const InputFile& file, const ShardIndex& index, std::size_t i, std::vector<std::uint8_t>& bytes) {
  const auto place = [&] { return concat("sample ", i, " (id ", index.id[i], ")"); };
  bytes.resize(index.offset[i + 1] - index.offset[i]);
  try {
    file.read(index.data.begin + index.offset[i], bytes);
  } catch (const IoError& error) {
    throw IoError(concat(error.what(), ", in ", place()));
  }
  QM_CHECK(crc32c(bytes) == index.crc32c[i], IoError, file.path(), ": ", place(),
           ": damaged: its bytes do not match their checksum");
}

/// Throws about the first sample that is not as the index says.
void verify_samples(const InputFile& file, const ShardIndex& index, int threads) {
  const std::int64_t samples = index.samples();
  std::int64_t failed = samples;
  std::exception_ptr failure;
#pragma omp parallel num_threads(threads)
  {
    std::vector<std::uint8_t> bytes;  // reused from sample to sample
#pragma omp for schedule(dynamic, 16)
    for (std::int64_t i = 0; i < samples; ++i) {
      const auto at = static_cast<std::size_t>(i);
      try {
        read_sample(file, index, at, bytes);
        const std::optional<Encoding> encoding = encoding_of(bytes);
        QM_CHECK(encoding && static_cast<std::uint8_t>(*encoding) == index.encoding[at], IoError, file.path(),
                 ": sample ", i, " (id ", index.id[at], "): its first bytes are not those of its encoding");
      } catch (...) {
#pragma omp critical
        if (i < failed) {
          failed = i;
          failure = std::current_exception();
        }
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

std::optional<Encoding> encoding_of(std::span<const std::uint8_t> bytes) {
  constexpr std::array<std::uint8_t, 3> kJpegStart = {0xFF, 0xD8, 0xFF};
  constexpr std::array<std::uint8_t, 8> kPngStart = {0x89, 'P', 'N', 'G', 0x0D, 0x0A, 0x1A, 0x0A};
  const auto starts_with = [&](std::span<const std::uint8_t> start) {
    return bytes.size() >= start.size() && std::equal(start.begin(), start.end(), bytes.begin());
  };
  if (starts_with(kJpegStart)) return Encoding::kJpeg;
  if (starts_with(kPngStart)) return Encoding::kPng;
  return std::nullopt;
}

std::string shard_name(const std::string& split, std::int64_t number, std::int64_t count) {
  char numbers[64];
  std::snprintf(numbers, sizeof numbers, "-%05lld-of-%05lld.h5", static_cast<long long>(number),
                static_cast<long long>(count));
  return split + numbers;
}

std::vector<std::string> find_shards(const std::string& folder, const std::string& split) {
  std::vector<std::string> names;
  std::error_code cause;
  for (std::filesystem::directory_iterator entry(folder, cause), end; !cause && entry != end; entry.increment(cause)) {
    std::string name = entry->path().filename().string();
    if (parse_shard_name(name, split)) names.push_back(std::move(name));
  }
  QM_CHECK(!cause, IoError, folder, ": cannot read the folder: ", cause.message());
  std::sort(names.begin(), names.end());
  return names;
}

void check_split_name(const std::string& split) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  QM_CHECK(!split.empty() && split.front() != '.' && split.find_first_not_of(kAllowed) == std::string::npos,
           ConfigError, "split '", split, "': expected a name of letters, digits, '_', '.' and '-'");
}

ShardReport verify_shard(const std::string& path, int threads) {
  const InputFile file(path);
  ShardIndex index = read_shard_index(file);
  verify_samples(file, index, threads);

  ShardReport report;
  report.split = index.split;
  report.samples = index.samples();
  report.data_bytes = index.data.size();
  report.file_bytes = file.size();
  report.samples_per_class.resize(index.class_names.size());
  report.smallest_side = UINT16_MAX;
  for (std::size_t i = 0; i < index.label.size(); ++i) {
    ++(index.encoding[i] == static_cast<std::uint8_t>(Encoding::kJpeg) ? report.jpegs : report.pngs);
    ++report.samples_per_class[static_cast<std::size_t>(index.label[i])];
    for (const std::int64_t side : index.size[i]) {
      report.smallest_side = std::min(report.smallest_side, side);
      report.largest_side = std::max(report.largest_side, side);
    }
  }
  report.class_names = std::move(index.class_names);
  return report;
}

struct ShardSet::Shard {
  explicit Shard(const std::string& path) : file(path), index(read_shard_index(file)) {}

  InputFile file;
  ShardIndex index;
  std::int64_t first = 0;  // sample of the set
};

ShardSet::ShardSet(const std::string& folder, const std::string& split, const std::function<void()>& before_each) {
  const std::vector<std::string> names = find_shards(folder, split);
  check_complete(folder, split, names);
  for (const std::string& name : names) {
    if (before_each) before_each();
    shards_.push_back(std::make_unique<Shard>((std::filesystem::path(folder) / name).string()));
    Shard& shard = *shards_.back();
    const ShardIndex& first = shards_.front()->index;
    QM_CHECK(shard.index.split == split, IoError, shard.file.path(), ": holds split '", shard.index.split,
             "', its name says '", split, "'");
    QM_CHECK(shard.index.class_names == first.class_names, IoError, shard.file.path(),
             ": its class names differ from those of ", names.front());
    shard.first = size_;
    size_ += shard.index.samples();
  }
  class_names_ = shards_.front()->index.class_names;
  check_ids();
  digest_ = compute_digest();
}

ShardSet::~ShardSet() = default;
ShardSet::ShardSet(ShardSet&&) noexcept = default;
ShardSet& ShardSet::operator=(ShardSet&&) noexcept = default;

void ShardSet::check_ids() const {
  std::vector<std::uint64_t> ids;
  ids.reserve(static_cast<std::size_t>(size_));
  for (const auto& shard : shards_) ids.insert(ids.end(), shard->index.id.begin(), shard->index.id.end());
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice == ids.end()) return;
  throw IoError(concat(shards_.front()->file.path(), ": in this set of shards sample id ", *twice, " comes twice"));
}

std::uint64_t ShardSet::compute_digest() const {
  Sha256 hash;
  for (const std::string& name : class_names_) hash.update_text(name);
  for (const auto& shard : shards_) {
    const ShardIndex& index = shard->index;
    for (std::size_t i = 0; i < index.label.size(); ++i) {
      const std::array<std::uint64_t, 3> sample = {
          index.id[i], std::uint64_t{index.crc32c[i]} << 32 | static_cast<std::uint32_t>(index.label[i]),
          std::uint64_t{index.size[i][0]} << 16 | index.size[i][1]};
      hash.update_values(std::span(sample));
    }
  }
  std::uint64_t digest;
  std::memcpy(&digest, hash.digest().data(), sizeof digest);
  return digest;
}

const ShardSet::Shard& ShardSet::shard_of(std::int64_t index) const {
  QM_CHECK(index >= 0 && index < size_, Error, "sample ", index, " of a set of ", size_);
  const auto after = std::upper_bound(shards_.begin(), shards_.end(), index,
                                      [](std::int64_t i, const auto& shard) { return i < shard->first; });
  return **std::prev(after);
}

std::int64_t ShardSet::size() const {
  return size_;
}
std::vector<std::int64_t> ShardSet::shard_sizes() const {
  std::vector<std::int64_t> sizes;
  for (const auto& shard : shards_) sizes.push_back(shard->index.samples());
  return sizes;
}
const std::vector<std::string>& ShardSet::class_names() const {
  return class_names_;
}
std::uint64_t ShardSet::digest() const {
  return digest_;
}

std::int32_t ShardSet::label(std::int64_t index) const {
  const Shard& shard = shard_of(index);
  return shard.index.label[static_cast<std::size_t>(index - shard.first)];
}

std::uint64_t ShardSet::id(std::int64_t index) const {
  const Shard& shard = shard_of(index);
  return shard.index.id[static_cast<std::size_t>(index - shard.first)];
}

std::int64_t ShardSet::height(std::int64_t index) const {
  const Shard& shard = shard_of(index);
  return shard.index.size[static_cast<std::size_t>(index - shard.first)][0];
}

std::int64_t ShardSet::width(std::int64_t index) const {
  const Shard& shard = shard_of(index);
  return shard.index.size[static_cast<std::size_t>(index - shard.first)][1];
}

void ShardSet::read(std::int64_t index, std::vector<std::uint8_t>& bytes) const {
  const Shard& shard = shard_of(index);
  read_sample(shard.file, shard.index, static_cast<std::size_t>(index - shard.first), bytes);
}

std::string ShardSet::describe(std::int64_t index) const {
  const Shard& shard = shard_of(index);
  const auto i = static_cast<std::size_t>(index - shard.first);
  return concat(shard.file.path(), ": sample ", i, " (id ", shard.index.id[i], ")");
}

}  // namespace qm
