// quadmamba quadrants: where a model looks. How often the quadrant that a block selects holds the glyph.
#include <cstdio>

#include "data/glyphs.h"
#include "launch/commands.h"
#include "launch/image_input.h"
#include "launch/model_file.h"

namespace qm {
namespace {

/// A quadtree block that partitions the map as it is; every second block rolls it first and is not asked.
struct AskedBlock {
  std::size_t probe_index;
  std::string name;
  std::int64_t hits = 0;
};

std::vector<AskedBlock> asked_blocks(const QuadMambaConfig& config) {
  std::vector<AskedBlock> blocks;
  std::size_t index = 0;
  for (std::size_t stage = 0; stage < 2; ++stage) {
    for (std::int64_t j = 0; j < config.depths[stage]; ++j, ++index) {
      if (j % 2 == 0) blocks.push_back({index, concat("layers.", stage, ".blocks.", j)});
    }
  }
  return blocks;
}

/// The quadrant of the image that holds the box's centre, in the order of kernels/quad_order.h.
int quadrant_of(const GlyphBox& box) {
  const double middle = static_cast<double>(kGlyphImageSize) / 2;
  const double y = static_cast<double>(box.top) + static_cast<double>(box.height) / 2;
  const double x = static_cast<double>(box.left) + static_cast<double>(box.width) / 2;
  return (y >= middle ? 2 : 0) + (x >= middle ? 1 : 0);
}

}  // namespace

int run_quadrants(std::span<const std::string> arguments, const Environment& environment) {
  CommandLine line("quadrants",
                   "Shows how often the quadrant that a model selects holds the glyph, on images of `quadmamba glyphs`:\n"
                   "a line for each quadtree block that does not roll the map. Chance is 25 %.");
  std::string file, data, weights, device = "auto";
  line.required_option("checkpoint", "FILE", file, "a checkpoint of quadmamba train");
  line.required_option("data", "DIR", data, "a split's folder of glyph images, with its boxes.csv");
  line.choice("weights", {"ema", "model"}, weights, "which weights; by default ema where there is one");
  line.choice("device", {"auto", "cpu", "cuda"}, device, "where to compute");
  if (!line.parse(arguments)) return 0;

  const ModelFile model = load_model_file(file, weights, device, environment);
  std::vector<AskedBlock> blocks = asked_blocks(model.network->model->config());
  const std::vector<GlyphLocation> glyphs = read_glyph_locations(data);
  for (const auto& glyph : glyphs) {
    QuadProbe probe;
    const Tensor input = load_image_input(data + "/" + glyph.file, model.recipe).to(model.network->device());
    (*model.network->model)(input, ForwardContext{nullptr, &probe});
    for (auto& block : blocks) {
      const std::int32_t selected = probe.selected.at(block.probe_index).to_vector<std::int32_t>().at(0);
      block.hits += selected == quadrant_of(glyph.box);
    }
  }
  for (const auto& block : blocks) {
    std::printf("%s: the selected quadrant holds the glyph in %.1f%% of %zu images (chance: 25%%)\n",
                block.name.c_str(), 100.0 * static_cast<double>(block.hits) / static_cast<double>(glyphs.size()),
                glyphs.size());
  }
  return 0;
}

}  // namespace qm
