#include <unistd.h>

#include <iostream>

#include "data/pack.h"
#include "kernels/base/fault.h"
#include "launch/commands.h"
#include "launch/stop.h"

namespace qm {
namespace {

constexpr std::size_t kNamesShown = 5;

// A line that overwrites itself on a terminal; nothing in a log file.
void show_progress(std::int64_t done, std::int64_t total) {
  std::cerr << "\rpack: " << done << " of " << total << " images" << (done == total ? "\n" : "") << std::flush;
}

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
  print_some(report.skipped, "Bad images skipped",
             [](const BadImage& bad) { return concat(bad.path, ": ", bad.cause); });
  print_some(report.ignored, "Files ignored, neither JPEG nor PNG", itself);
  print_some(report.empty_classes, "Classes without images", itself);
  std::cout << options.split << ": " << report.images << " images of " << report.class_names.size() << " classes, "
            << report.skipped.size() << " skipped, " << report.bytes << " bytes, in " << report.files.size()
            << " shards in " << options.output << "\n";
}

}  // namespace

int run_pack(std::span<const std::string> arguments, const Environment&) {
  PackOptions options;
  std::string fault;
  CommandLine line(
      "pack",
      "Packs the JPEG and PNG images of a folder with one sub-folder a class into HDF5 shards. Every image is\n"
      "decoded once to prove that it is good; the sorted names of the sub-folders are the labels 0, 1, …");
  line.required_option("input", "DIR", options.input, "folder with one sub-folder a class");
  line.required_option("split", "NAME", options.split, "what the images are for: train, val, …");
  line.required_option("output", "DIR", options.output, "folder for the shards, made if absent");
  line.option("shards", "N", options.shards, {0, 99999}, "number of shards; 0: about 1 GiB each");
  line.option("threads", "N", options.threads, {0, 1024}, "threads that read and decode; 0: one a core");
  line.option("seed", "N", options.seed, "of the order of the images in the shards");
  line.flag("skip-bad", options.skip_bad, "leave out images that cannot be decoded, and count them");
  line.flag("overwrite", options.overwrite, "replace shards of this split in the output folder");
  line.option("fault", "SPEC", fault, "a test aid: die, freeze or fail at a chosen point; see kernels/base/fault.h");
  if (!line.parse(arguments)) return 0;
  if (!fault.empty()) arm_fault(fault, 0);

  options.progress = [visible = isatty(STDERR_FILENO)](std::int64_t done, std::int64_t total) {
    if (visible) show_progress(done, total);
    fault_point("pack");
    check_stop();
  };
  print_report(pack(options), options);
  return 0;
}

}  // namespace qm
