#include "data/pack.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <exception>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "data/file.h"
#include "data/image.h"
#include "data/shard.h"
#include "kernels/base/error.h"
#include "kernels/base/philox.h"

namespace qm {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kShardBytes = std::uint64_t{1} << 30;  // aimed at when the number of shards is left to us
constexpr std::int64_t kMostShards = 99999;                    // five digits in a file name

struct Candidate {
  std::string path;
  std::int32_t label = 0;
  std::uint64_t bytes = 0;
};

struct Tree {
  std::vector<std::string> class_names;
  std::vector<Candidate> images;     // sorted by class, then name
  std::vector<std::string> ignored;  // paths
};

// ---- finding the images
// ----------------------------------------------------------------------------------------------

/// A folder's entries, sorted by name, without hidden ones.
std::vector<fs::directory_entry> entries_of(const std::string& folder) {
  std::vector<fs::directory_entry> entries;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (!entry.path().filename().string().starts_with('.')) entries.push_back(entry);
    }
  } catch (const fs::filesystem_error& error) {
    throw IoError(concat(folder, ": cannot read the folder: ", error.code().message()));
  }
  std::ranges::sort(entries, {}, [](const fs::directory_entry& entry) { return entry.path().string(); });
  return entries;
}

bool is_folder(const fs::directory_entry& entry) {
  std::error_code broken_link;
  return entry.is_directory(broken_link);
}

bool is_named_like_image(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

bool begins_like_image(const fs::directory_entry& entry) {
  std::error_code broken_link;
  if (!entry.is_regular_file(broken_link)) return false;
  const InputFile file(entry.path().string());
  std::array<std::uint8_t, 8> start{};
  file.read(0, std::span(start).first(std::min<std::uint64_t>(start.size(), file.size())));
  return encoding_of(start).has_value();
}

void scan_class(const fs::directory_entry& folder, Tree& tree) {
  const auto label = static_cast<std::int32_t>(tree.class_names.size());
  tree.class_names.push_back(folder.path().filename().string());
  for (const fs::directory_entry& entry : entries_of(folder.path().string())) {
    const std::string path = entry.path().string();
    if (!is_folder(entry) && (is_named_like_image(entry.path()) || begins_like_image(entry))) {
      std::error_code broken_link;
      const std::uintmax_t bytes = entry.file_size(broken_link);
      tree.images.push_back({path, label, broken_link ? 0 : bytes});
    } else {
      tree.ignored.push_back(path);
    }
  }
}

Tree scan(const std::string& input) {
  Tree tree;
  for (const fs::directory_entry& entry : entries_of(input)) {
    if (is_folder(entry)) {
      scan_class(entry, tree);
    } else {
      tree.ignored.push_back(entry.path().string());
    }
  }
  QM_CHECK(!tree.class_names.empty(), IoError, input, ": holds no class folders (expected one sub-folder a class)");
  QM_CHECK(!tree.images.empty(), IoError, input, ": no JPEG or PNG images in its ", tree.class_names.size(),
           " class folders");
  return tree;
}

// ---- dealing them to the shards
// --------------------------------------------------------------------------------------

std::int64_t count_shards(const PackOptions& options, const Tree& tree) {
  const auto images = static_cast<std::int64_t>(tree.images.size());
  if (options.shards > 0) {
    QM_CHECK(options.shards <= images, ConfigError, "shards ", options.shards, ": there are only ", images, " images");
    return options.shards;
  }
  std::uint64_t bytes = 0;
  for (const Candidate& image : tree.images) bytes += image.bytes;
  return std::clamp(static_cast<std::int64_t>((bytes + kShardBytes - 1) / kShardBytes), std::int64_t{1},
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

// ---- reading and proving them
// ----------------------------------------------------------------------------------------

struct LoadedImage {
  std::vector<std::uint8_t> bytes;
  std::int64_t height = 0, width = 0;
  std::string cause;  // why it is bad; empty for a good one
};

/// Reads and decodes an image. Never throws: it runs in a parallel loop.
LoadedImage load(const std::string& path) {
  LoadedImage loaded;
  try {
    loaded.bytes = read_file(path);
    const Image image = decode_image(loaded.bytes);
    QM_CHECK(std::max(image.height, image.width) <= UINT16_MAX, IoError, image.height, "×", image.width,
             " pixels; a side has at most ", UINT16_MAX);
    loaded.height = image.height;
    loaded.width = image.width;
  } catch (const std::exception& error) {
    std::string_view cause = error.what();
    if (cause.starts_with(path + ": ")) cause.remove_prefix(path.size() + 2);
    loaded.cause = cause;
  }
  return loaded;
}

/// Loads the images `order` names, on all threads.
std::vector<LoadedImage> load_batch(const Tree& tree, std::span<const std::size_t> order, int threads) {
  std::vector<LoadedImage> batch(order.size());
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (std::size_t i = 0; i < order.size(); ++i) batch[i] = load(tree.images[order[i]].path);
  return batch;
}

void check_options(const PackOptions& options) {
  check_split_name(options.split);
  QM_CHECK(options.shards >= 0 && options.shards <= kMostShards, ConfigError, "shards ", options.shards,
           ": expected 1 to ", kMostShards, ", or 0 to leave it open");
  QM_CHECK(options.threads >= 0 && options.threads <= 4096, ConfigError, "threads ", options.threads,
           ": expected 1 to 4096, or 0 for one a core");
}

void make_folder(const std::string& folder) {
  std::error_code cause;
  fs::create_directories(folder, cause);
  QM_CHECK(!cause, IoError, folder, ": cannot make the folder: ", cause.message());
}

void remove_file(const std::string& path) {
  std::error_code cause;
  fs::remove(path, cause);
  QM_CHECK(!cause, IoError, path, ": cannot remove: ", cause.message());
}

/// Packs one tree; the shards it has finished live as long as it does, and are published together.
class Packer {
 public:
  Packer(const PackOptions& options, const Tree& tree)
      : options_(options),
        tree_(tree),
        threads_(static_cast<int>(options.threads > 0 ? options.threads
                                                      : std::max(1u, std::thread::hardware_concurrency()))),
        order_(shuffled(tree.images.size(), options.seed)),
        written_per_class_(tree.class_names.size()) {
    report_.class_names = tree.class_names;
    report_.ignored = tree.ignored;
  }

  void write_shards(std::int64_t count) {
    const std::size_t images = order_.size();
    for (std::int64_t number = 0; number < count; ++number) {
      const std::size_t begin = images * number / count, end = images * (number + 1) / count;
      writers_.push_back(
          std::make_unique<ShardWriter>(options_.output, options_.split, number, count, tree_.class_names));
      fill(*writers_.back(), std::span(order_).subspan(begin, end - begin));
      QM_CHECK(writers_.back()->size() > 0, IoError, writers_.back()->path(), ": all its ", end - begin,
               " images are bad, among them ", report_.skipped.back().path, ": ", report_.skipped.back().cause);
      writers_.back()->finish();
    }
  }

  PackReport publish() {
    // Old shards go first: an interruption here leaves a set with gaps, which no reader takes for a whole one.
    for (const std::string& old : find_shards(options_.output, options_.split)) {
      remove_file(options_.output + "/" + old);
    }
    for (const auto& writer : writers_) {
      writer->publish();
      report_.files.push_back(writer->path());
    }
    std::ranges::sort(report_.skipped, {}, &BadImage::path);
    for (std::size_t label = 0; label < written_per_class_.size(); ++label) {
      if (written_per_class_[label] == 0) report_.empty_classes.push_back(tree_.class_names[label]);
    }
    return std::move(report_);
  }

 private:
  void fill(ShardWriter& writer, std::span<const std::size_t> order) {
    const std::size_t batch_size = 32 * static_cast<std::size_t>(threads_);
    while (!order.empty()) {
      const auto now = order.first(std::min(batch_size, order.size()));
      const std::vector<LoadedImage> batch = load_batch(tree_, now, threads_);
      for (std::size_t i = 0; i < now.size(); ++i) add(writer, now[i], batch[i]);
      order = order.subspan(now.size());
      done_ += static_cast<std::int64_t>(now.size());
      if (options_.progress) options_.progress(done_, static_cast<std::int64_t>(order_.size()));
    }
  }

  void add(ShardWriter& writer, std::size_t id, const LoadedImage& loaded) {
    const Candidate& image = tree_.images[id];
    if (!loaded.cause.empty()) {
      QM_CHECK(options_.skip_bad, IoError, image.path, ": ", loaded.cause);
      report_.skipped.push_back({image.path, loaded.cause});
      return;
    }
    writer.append({loaded.bytes, image.label, id, loaded.height, loaded.width});
    ++report_.images;
    report_.bytes += loaded.bytes.size();
    ++written_per_class_[static_cast<std::size_t>(image.label)];
  }

  const PackOptions& options_;
  const Tree& tree_;
  int threads_;
  std::vector<std::size_t> order_;
  std::vector<std::int64_t> written_per_class_;
  std::vector<std::unique_ptr<ShardWriter>> writers_;
  std::int64_t done_ = 0;
  PackReport report_;
};

}  // namespace

PackReport pack(const PackOptions& options) {
  check_options(options);
  const Tree tree = scan(options.input);
  const std::int64_t shards = count_shards(options, tree);
  make_folder(options.output);
  const std::vector<std::string> old = find_shards(options.output, options.split);
  QM_CHECK(old.empty() || options.overwrite, IoError, options.output, ": already holds ", old.size(),
           " shards of split '", options.split, "', such as ", old.front(), "; overwriting has to be asked for");
  Packer packer(options, tree);
  packer.write_shards(shards);
  return packer.publish();
}

}  // namespace qm
