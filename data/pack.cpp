#include "data/pack.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "data/exif.h"
#include "data/file.h"
#include "data/image.h"
#include "data/resample.h"
#include "data/sha256.h"
#include "data/shard.h"
#include "data/shard_index.h"
#include "kernels/base/error.h"
#include "kernels/base/philox.h"

namespace qm {

namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostShards = 99999;  // five digits in a file name
constexpr std::size_t kEstimatedFrom = 256;  // images

// ---- dealing the images to the shards -------------------------------------------------------------------------------

std::int64_t count_shards(const PackOptions& options, std::int64_t images, std::uint64_t bytes) {
  if (options.shards > 0) {
    QM_CHECK(options.shards <= images, ConfigError, "shards ", options.shards, ": there are only ", images, " images");
    return options.shards;
  }
  return std::clamp(static_cast<std::int64_t>((bytes + options.shard_bytes - 1) / options.shard_bytes), std::int64_t{1},
                    std::min(images, kMostShards));
}

/// A permutation of 0 .. count − 1 (Fisher and Yates).
std::vector<std::size_t> shuffled(std::size_t count, std::uint64_t seed) {
  constexpr std::uint32_t kNoEpoch = 0xffffffffu;  // keeps off the orders that a sampler draws under the same seed
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  for (std::size_t i = count; i > 1; --i) {
    const PhiloxBlock random = philox(seed, RandomPurpose::kDataOrder, kNoEpoch, static_cast<std::uint32_t>(i >> 32),
                                      static_cast<std::uint32_t>(i));
    std::swap(order[i - 1], order[(std::uint64_t{random.word[0]} << 32 | random.word[1]) % i]);
  }
  return order;
}

// ---- reading and proving them ---------------------------------------------------------------------------------------

struct LoadedImage {
  std::vector<std::uint8_t> bytes;
  std::int64_t height = 0, width = 0;
  std::string cause;  // why it is bad; empty for a good one
  std::exception_ptr failure;  // what kept it from being read or judged, which it is not to blame for
};

/// `image` as options want it stored, or nothing where it can stay as it is.
std::optional<Image> changed(const Image& image, std::span<const std::uint8_t> encoded, const PackOptions& options) {
  std::optional<Image> result;
  const int orientation = options.apply_exif ? exif_orientation(encoded) : 1;
  if (orientation != 1) result = upright(image, orientation);
  const Image& now = result ? *result : image;
  const std::int64_t side = options.short_side, shorter = std::min(now.height, now.width);
  if (side == 0 || shorter <= side) return result;
  return resize(now, {0, 0, now.height, now.width}, now.height * side / shorter, now.width * side / shorter,
                Interpolation::kBicubic);
}

/// Reads and decodes an image. Never throws: it runs in a parallel loop.
LoadedImage load(const PackSource& source, const SourceImage& place, const PackOptions& options) {
  LoadedImage loaded;
  const auto fail = [&](const char* cause) {
    loaded.failure = std::make_exception_ptr(Error(concat(place.name, ": ", cause)));
  };
  bool is_read = false;
  try {
    loaded.bytes = source.read(place);
    is_read = true;
    Image image = decode_image(loaded.bytes);
    if (auto other = changed(image, loaded.bytes, options)) {
      image = std::move(*other);
      loaded.bytes = encode_jpeg(image, static_cast<int>(options.quality));
    }
    QM_CHECK(std::max(image.height, image.width) <= UINT16_MAX, IoError, image.height, "×", image.width,
             " pixels; a side has at most ", UINT16_MAX);
    loaded.height = image.height;
    loaded.width = image.width;
  } catch (const IoError& error) {
    if (is_read) {
      loaded.cause = error.what();
    } else {
      loaded.failure = std::current_exception();  // names the file
    }
  } catch (const std::bad_alloc&) {
    fail("out of memory");
  } catch (const std::exception& error) {
    fail(error.what());
  }
  return loaded;
}

void check_options(const PackOptions& options) {
  check_split_name(options.split);
  QM_CHECK(options.shards >= 0 && options.shards <= kMostShards, ConfigError, "shards ", options.shards,
           ": expected 1 to ", kMostShards, ", or 0 to leave it open");
  QM_CHECK(options.shard_bytes > 0, ConfigError, "shard_bytes 0: expected at least 1");
  QM_CHECK(options.threads >= 0 && options.threads <= 4096, ConfigError, "threads ", options.threads,
           ": expected 1 to 4096, or 0 for one a core");
  QM_CHECK(options.short_side >= 0 && options.short_side <= UINT16_MAX, ConfigError, "short side ", options.short_side,
           ": expected 1 to ", UINT16_MAX, ", or 0 to keep sizes");
  QM_CHECK(options.quality >= 1 && options.quality <= 100, ConfigError, "quality ", options.quality,
           ": expected 1 to 100");
}

void make_folder(const std::string& folder) {
  std::error_code cause;
  fs::create_directories(folder, cause);
  QM_CHECK(!cause, IoError, folder, ": cannot make the folder: ", cause.message());
}

bool exists(const std::string& path) {
  std::error_code missing;
  return fs::exists(path, missing);
}

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(0, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  file.finish();
  file.publish();
}

/// Numbers as text, and back.
std::string text_of(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const std::int64_t number : numbers) text += std::to_string(number) + "\n";
  return text;
}
std::vector<std::int64_t> numbers_of(const std::vector<std::uint8_t>& text) {
  std::istringstream stream(std::string(text.begin(), text.end()));
  std::vector<std::int64_t> numbers;
  for (std::int64_t number; stream >> number;) numbers.push_back(number);
  return numbers;
}

void remove_file(const std::string& path) {
  std::error_code cause;
  fs::remove(path, cause);
  QM_CHECK(!cause, IoError, path, ": cannot remove: ", cause.message());
}

// ---- packing --------------------------------------------------------------------------------------------------------

class Packer {
 public:
  Packer(const PackOptions& options, const PackSource& source)
      : options_(options),
        source_(source),
        partial_(options.output + "/" + options.split + ".partial"),
        threads_(static_cast<int>(options.threads > 0 ? options.threads
                                                      : std::max(1u, std::thread::hardware_concurrency()))),
        order_(shuffled(source.images().size(), options.seed)),
        per_class_(source.class_names().size()) {
    report_.class_names = source.class_names();
    report_.ignored = source.ignored();
    report_.hidden = source.hidden();
    for (const BadImage& problem : source.problems()) skip(problem);
    plan_.images = static_cast<std::int64_t>(order_.size());
    plan_.classes = static_cast<std::int64_t>(per_class_.size());
    plan_.estimated = options.short_side > 0 || options.apply_exif;
    for (const SourceImage& image : source.images()) plan_.bytes += image.bytes;
    if (plan_.estimated) plan_.bytes = estimated_bytes();
    plan_.shards = count_shards(options, plan_.images, plan_.bytes);
  }

  /// Makes the folder `partial_` this process's own. Throws IoError where another process packs there.
  void lock() {
    const std::string path = partial_ + "/lock";
    do {
      make_folder(partial_);
      lock_.emplace(path);
    } while (!exists(path));  // of a process that was at its end, and has removed the folder
  }

  void write_shards() {
    open_partial();
    if (options_.announce) options_.announce(plan_);
    for (std::int64_t number = 0; number < plan_.shards; ++number) {
      const std::size_t begin = order_.size() * number / plan_.shards;
      const std::size_t end = order_.size() * (number + 1) / plan_.shards;
      const auto order = std::span(order_).subspan(begin, end - begin);
      if (keep(number, order) || write(number, order)) finished_.push_back(number);
    }
    QM_CHECK(!finished_.empty(), IoError, options_.input, ": all ", plan_.images, " images are bad, among them ",
             report_.skipped.back().path, ": ", report_.skipped.back().cause);
  }

  PackReport publish() {
    // Old shards go first: an interruption here leaves a set with gaps, which no reader takes for a whole one. Only
    // once they are gone is a shard in `output` known to be this plan's.
    for (const std::string& old : published_shards()) remove_file(options_.output + "/" + old);
    write_text(publishing_path(), text_of(finished_));
    for (std::size_t place = 0; place < finished_.size(); ++place) {
      const std::string path = published_path(place, finished_.size());
      move_file(partial_path(finished_[place]), path);
      report_.files.push_back(path);
    }
    remove_partial();
    std::ranges::sort(report_.skipped, {}, &BadImage::path);
    for (std::size_t label = 0; label < per_class_.size(); ++label) {
      if (per_class_[label] == 0) report_.empty_classes.push_back(report_.class_names[label]);
    }
    return std::move(report_);
  }

  /// After a failure, which it does not hide behind another: nothing is left where no shard was finished.
  void abandon() {
    try {
      if (find_shards(partial_, options_.split).empty() && !exists(publishing_path())) fs::remove_all(partial_);
    } catch (const std::exception&) {
      // The next run goes on with what is there, or removes it.
    }
  }

 private:
  std::string plan_path() const { return partial_ + "/plan"; }
  std::string publishing_path() const { return partial_ + "/publishing"; }

  /// A shard's name while it waits for the others, and its place under its own when those without images are left out.
  std::string partial_path(std::int64_t number) const {
    return partial_ + "/" + shard_name(options_.split, number, plan_.shards);
  }
  std::string published_path(std::size_t place, std::size_t count) const {
    return options_.output + "/" +
           shard_name(options_.split, static_cast<std::int64_t>(place), static_cast<std::int64_t>(count));
  }
  std::vector<std::string> published_shards() const { return find_shards(options_.output, options_.split); }

  /// After an interruption of publish(): its shards wait again, to be looked at.
  void take_back_published() {
    const std::vector<std::int64_t> numbers = numbers_of(read_file(publishing_path()));
    for (std::size_t place = 0; place < numbers.size(); ++place) {
      const std::string path = published_path(place, numbers.size());
      if (exists(path)) move_file(path, partial_path(numbers[place]));
    }
    remove_file(publishing_path());
  }

  std::uint64_t estimated_bytes() const {
    const std::size_t images = order_.size(), count = std::min(images, kEstimatedFrom);
    std::vector<std::size_t> sizes(count);
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
    for (std::size_t i = 0; i < count; ++i) {
      sizes[i] = load(source_, source_.images()[images * i / count], options_).bytes.size();
    }
    std::uint64_t sum = 0;
    for (const std::size_t size : sizes) sum += size;
    return sum * images / count;
  }

  /// Whatever decides what is in which shard: equal for runs that may share shards.
  std::string fingerprint() const {
    Sha256 hash;
    const std::uint64_t numbers[] = {kFormatVersion,
                                     options_.seed,
                                     static_cast<std::uint64_t>(plan_.shards),
                                     static_cast<std::uint64_t>(options_.short_side),
                                     static_cast<std::uint64_t>(options_.quality),
                                     options_.apply_exif ? 1u : 0u};
    hash.update_values(std::span(numbers));
    hash.update_text(options_.split);
    for (const std::string& name : report_.class_names) hash.update_text(name);
    for (const SourceImage& image : source_.images()) {
      hash.update_text(image.name);
      const std::uint64_t place[] = {static_cast<std::uint64_t>(image.label), image.offset, image.bytes,
                                     static_cast<std::uint64_t>(image.modified),
                                     static_cast<std::uint64_t>(image.changed)};
      hash.update_values(std::span(place));
    }
    return hash.hex_digest();
  }

  /// Goes on with what an earlier run that packed the same has left, else begins anew.
  void open_partial() {
    const std::string plan = fingerprint();
    const bool same =
        exists(plan_path()) && read_file(plan_path()) == std::vector<std::uint8_t>(plan.begin(), plan.end());
    if (same && exists(publishing_path())) take_back_published();
    const std::vector<std::string> others = published_shards();
    QM_CHECK(others.empty() || options_.overwrite, IoError, options_.output, ": already holds ", others.size(),
             " shards of split '", options_.split, "', such as ", others.front(), "; --overwrite replaces them");
    if (!same) {
      for (const auto& entry : fs::directory_iterator(partial_)) {
        if (entry.path().filename() != "lock") remove_file(entry.path().string());
      }
      write_text(plan_path(), plan);
    }
    for (std::int64_t number = 0; number < plan_.shards; ++number) {
      plan_.kept_shards += exists(partial_path(number));
    }
  }

  void remove_partial() const {
    std::error_code cause;
    fs::remove_all(partial_, cause);
    QM_CHECK(!cause, IoError, partial_, ": cannot remove: ", cause.message());
  }

  /// False where all its images are bad: then there is no such shard.
  bool write(std::int64_t number, std::span<const std::size_t> order) {
    ShardWriter writer(partial_, options_.split, number, plan_.shards, report_.class_names);
    const std::size_t batch_size = 32 * static_cast<std::size_t>(threads_);
    while (!order.empty()) {
      const auto now = order.first(std::min(batch_size, order.size()));
      add(writer, now);
      order = order.subspan(now.size());
      advance(now.size());
    }
    if (writer.size() == 0) return false;
    writer.finish();
    writer.publish();
    return true;
  }

  void add(ShardWriter& writer, std::span<const std::size_t> ids) {
    std::vector<LoadedImage> batch(ids.size());
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
    for (std::size_t i = 0; i < ids.size(); ++i) batch[i] = load(source_, source_.images()[ids[i]], options_);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const SourceImage& image = source_.images()[ids[i]];
      if (batch[i].failure) std::rethrow_exception(batch[i].failure);
      if (!batch[i].cause.empty()) {
        skip({image.name, batch[i].cause});
        continue;
      }
      writer.append({batch[i].bytes, image.label, ids[i], batch[i].height, batch[i].width});
      count(image.label, batch[i].bytes.size());
    }
  }

  /// Counts what is in a shard that an earlier run finished; false if there is none, or one that is damaged or
  /// another's. Images that the shard lacks were bad: they are tried again, to name the cause, and if one is good by
  /// now the shard is not kept.
  bool keep(std::int64_t number, std::span<const std::size_t> order) {
    const std::string path = partial_path(number);
    if (!exists(path)) return false;
    std::optional<ShardIndex> index;
    try {
      verify_shard(path, threads_);
      index = read_shard_index(InputFile(path));
    } catch (const IoError& error) {
      report_.damaged.emplace_back(error.what());
      return false;
    }
    std::set<std::uint64_t> lacking(order.begin(), order.end());
    for (const std::uint64_t id : index->id) {
      if (lacking.erase(id) == 0) return false;
    }
    std::vector<BadImage> bad;
    for (const std::uint64_t id : lacking) {
      const SourceImage& image = source_.images()[id];
      const LoadedImage loaded = load(source_, image, options_);
      if (loaded.failure) std::rethrow_exception(loaded.failure);
      if (loaded.cause.empty()) return false;
      bad.push_back({image.name, loaded.cause});
    }
    for (std::size_t i = 0; i < index->label.size(); ++i) {
      count(index->label[i], index->offset[i + 1] - index->offset[i]);
    }
    for (const BadImage& image : bad) skip(image);
    ++report_.kept_shards;
    progress_.kept += static_cast<std::int64_t>(order.size());
    advance(order.size());
    return true;
  }

  void skip(const BadImage& bad) {
    QM_CHECK(options_.skip_bad, IoError, bad.path, ": ", bad.cause, "; --skip-bad leaves out what is bad");
    report_.skipped.push_back(bad);
  }

  void count(std::int32_t label, std::uint64_t bytes) {
    ++report_.images;
    report_.bytes += bytes;
    ++per_class_[static_cast<std::size_t>(label)];
  }

  void advance(std::size_t images) {
    progress_.done += static_cast<std::int64_t>(images);
    progress_.total = plan_.images;
    if (options_.progress) options_.progress(progress_);
  }

  const PackOptions& options_;
  const PackSource& source_;
  std::string partial_;  // folder of the shards that are finished
  int threads_;
  std::vector<std::size_t> order_;
  std::vector<std::int64_t> per_class_;  // images
  std::vector<std::int64_t> finished_;   // numbers of shards that lie in partial_, complete
  PackPlan plan_;
  PackProgress progress_;
  std::optional<FileLock> lock_;
  PackReport report_;
};

}  // namespace

std::string describe(const PackProgress& progress, double seconds) {
  const std::string done = concat("pack: ", progress.done, " of ", progress.total, " images, ");
  if (progress.done == progress.kept) return done + "kept from an earlier run";
  const double rate = static_cast<double>(progress.done - progress.kept) / std::max(seconds, 1e-3);
  const auto left = static_cast<long long>(static_cast<double>(progress.total - progress.done) / std::max(rate, 1e-3));
  char text[64];
  std::snprintf(text, sizeof text, "%.0f/s, %lld:%02lld:%02lld left", rate, left / 3600, left / 60 % 60, left % 60);
  return done + text;
}

/// Shards would be taken for images the next time, and their folder for a class.
void check_output_is_not_input(const PackOptions& options) {
  std::error_code ignored;
  if (!fs::is_directory(options.input, ignored)) return;
  const fs::path input = fs::weakly_canonical(options.input, ignored);
  const fs::path output = fs::weakly_canonical(fs::absolute(options.output), ignored);
  const auto differs = std::mismatch(input.begin(), input.end(), output.begin(), output.end()).first;
  QM_CHECK(differs != input.end(), ConfigError, options.output, ": lies in the folder of images, ", options.input,
           "; shards need a place of their own");
}

PackReport pack(const PackOptions& options) {
  check_output_is_not_input(options);
  check_options(options);
  const PackSource source({options.input, options.inside, options.labels, options.classes});
  Packer packer(options, source);
  packer.lock();
  try {
    packer.write_shards();
  } catch (...) {
    packer.abandon();
    throw;
  }
  return packer.publish();
}

}  // namespace qm
