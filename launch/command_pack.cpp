#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>

#include "data/pack.h"
#include "kernels/base/fault.h"
#include "launch/commands.h"
#include "launch/stop.h"

namespace qm {
namespace {

constexpr std::size_t kNamesShown = 5;

using Clock = std::chrono::steady_clock;

/// "146.301 GB", "8.908 kB"
std::string size_text(std::uint64_t bytes) {
  double number = static_cast<double>(bytes) * 1e-3;
  const char* unit = "kB";
  for (const char* larger : {"MB", "GB"}) {
    if (number < 1000) break;
    number *= 1e-3;
    unit = larger;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.3f %s", number, unit);
  return text;
}

void announce(const PackPlan& plan, const std::string& split) {
  std::cout << split << ": " << plan.images << " images of " << plan.classes << " classes, "
            << (plan.estimated ? "about " : "") << size_text(plan.bytes) << ", in " << plan.shards << " shards";
  if (plan.kept_shards > 0) std::cout << ", " << plan.kept_shards << " of them finished by an earlier run";
  std::cout << std::endl;  // before the work starts
}

/// A line that overwrites itself on a terminal, ten times a second; elsewhere one a minute.
class Progress {
 public:
  /// The work starts here: to list the images may have taken minutes.
  void start() { start_ = Clock::now(); }

  void show(const PackProgress& progress) {
    const auto now = Clock::now();
    if (progress.done == progress.kept) start_ = now;  // this run's own images have yet to come
    const bool finished = progress.done == progress.total;
    const std::chrono::milliseconds pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::minutes(1);
    if (now - shown_ < pause && !(terminal_ && finished)) return;
    shown_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    std::cerr << (terminal_ ? "\r" : "") << describe(progress, seconds) << (terminal_ ? "\33[K" : "")
              << (terminal_ && !finished ? "" : "\n") << std::flush;
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  Clock::time_point start_ = Clock::now(), shown_ = start_;
};

template <class Item, class Describe>
void print_some(const std::vector<Item>& items, const char* title, Describe describe) {
  if (items.empty()) return;
  std::cout << title << ": " << items.size() << "\n";
  for (std::size_t index = 0; index < items.size() && index < kNamesShown; ++index) {
    std::cout << "  " << describe(items[index]) << "\n";
  }
  if (items.size() > kNamesShown) std::cout << "  … and " << items.size() - kNamesShown << " more\n";
}

void print_report(const PackReport& report, const PackOptions& options) {
  const auto itself = [](const std::string& text) { return text; };
  print_some(report.skipped, "Skipped", [](const BadImage& bad) { return concat(bad.path, ": ", bad.cause); });
  print_some(report.ignored, "Files ignored, neither JPEG nor PNG", itself);
  print_some(report.hidden, "Hidden and passed over, whatever they hold", itself);
  print_some(report.empty_classes, "Classes without images", itself);
  print_some(report.damaged, "Shards of an earlier run that are damaged by now, and were packed again", itself);
  std::cout << options.split << ": " << report.images << " images of " << report.class_names.size() << " classes, "
            << report.skipped.size() << " skipped, " << report.bytes << " bytes, in " << report.files.size()
            << " shards in " << options.output;
  if (report.kept_shards > 0) std::cout << ", " << report.kept_shards << " of them kept";
  std::cout << "\n";
}

}  // namespace

int run_pack(std::span<const std::string> arguments, const Environment&) {
  PackOptions options;
  std::string fault;
  CommandLine line(
      "pack",
      "Packs JPEG and PNG images into HDF5 shards: those of a folder or tar archive with one sub-folder a class, of "
      "an\n"
      "archive with one archive a class, or lying flat beside a file of labels. Archives are read without unpacking.\n"
      "Every image is decoded once to prove that it is good; the sorted class names are the labels 0, 1, …\n"
      "Interrupted and run again, it keeps the shards that are finished.");
  std::int64_t shard_mib = 0, quality = 0;
  line.required_option("input", "DIR|TAR", options.input, "folder or archive with one sub-folder a class");
  line.required_option("split", "NAME", options.split, "what the images are for: train, val, …");
  line.required_option("output", "DIR", options.output, "folder for the shards, made if absent");
  line.option("shards", "N", options.shards, {0, 99999}, "number of shards; 0: as --shard-mib says");
  line.option("shard-mib", "N", shard_mib, {0, 1 << 20}, "size of a shard in MiB, roughly; 0: 1024");
  line.option("inside", "PATH", options.inside, "of an archive, only what lies under this folder");
  line.option("labels", "FILE", options.labels, "images lie flat; FILE has lines of NAME LABEL");
  line.option("classes", "FILE", options.classes,
              "class names in order, from a shard (*.h5) or one a line; labels may then be numbers from 0");
  line.option("short-side", "N", options.short_side, {0, 65535},
              "shrink images to this short side and store them as JPEG; 0: keep the original bytes");
  line.option("quality", "Q", quality, {0, 100}, concat("of images that are stored anew; 0: ", options.quality));
  line.flag("apply-exif", options.apply_exif, "turn images as EXIF says and store them anew; else EXIF is ignored");
  line.option("threads", "N", options.threads, {0, 1024}, "threads that read and decode; 0: one a core");
  line.option("seed", "N", options.seed, "of the order of the images in the shards");
  line.flag("skip-bad", options.skip_bad, "leave out bad images and whatever else cannot be packed, and count it");
  line.flag("overwrite", options.overwrite, "replace shards of this split in the output folder");
  line.option("fault", "SPEC", fault, "a test aid: die, freeze or fail at a chosen point; see kernels/base/fault.h");
  if (!line.parse(arguments)) return 0;
  if (!fault.empty()) arm_fault(fault, 0);

  QM_CHECK(options.shards == 0 || shard_mib == 0, UsageError, "pack: either --shards or --shard-mib, not both");
  options.shard_bytes = static_cast<std::uint64_t>(shard_mib > 0 ? shard_mib : 1024) << 20;
  QM_CHECK(quality == 0 || options.short_side > 0 || options.apply_exif, UsageError,
           "pack: --quality needs --short-side or --apply-exif: nothing else is stored anew");
  if (quality > 0) options.quality = quality;
  Progress progress;
  options.progress = [&](const PackProgress& now) {
    progress.show(now);
    fault_point("pack");
    check_stop();
  };
  options.announce = [&](const PackPlan& plan) {
    check_stop();  // to list the images may have taken minutes
    announce(plan, options.split);
    progress.start();
  };
  fault_point("index");
  print_report(pack(options), options);
  return 0;
}

}  // namespace qm
