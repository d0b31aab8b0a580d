#include <iostream>

#include "data/glyphs.h"
#include "launch/commands.h"

namespace qm {
namespace {

constexpr Limits kImages{1, 1'000'000};

void write_split(const std::string& folder, const std::string& split, std::int64_t count, std::uint64_t seed) {
  write_glyphs(folder, split, count, seed);
  std::cout << folder << "/" << split << ": " << count << " images of " << glyph_classes().size() << " classes\n";
}

}  // namespace

int run_glyphs(std::span<const std::string> arguments, const Environment&) {
  std::string output;
  std::int64_t train = 20000;
  std::int64_t val = 1000;
  std::uint64_t seed = 0;
  CommandLine line(
      "glyphs",
      "Generates the quickstart images: DIR/train and DIR/val with one sub-folder a class and a file boxes.csv that\n"
      "says where each glyph lies. Each image is 64×64: one of 10 small glyphs, anywhere on a textured background.");
  line.required_option("output", "DIR", output, "folder for the images, made if absent");
  line.option("train", "N", train, kImages, "training images");
  line.option("val", "N", val, kImages, "validation images");
  line.option("seed", "N", seed, "of everything that is random; same seed, same bytes");
  if (!line.parse(arguments)) return 0;

  write_split(output, "train", train, seed);
  write_split(output, "val", val, seed);
  return 0;
}

}  // namespace qm
