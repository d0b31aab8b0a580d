// quadmamba predict: a checkpoint and image files → the five likeliest classes of each.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "data/file.h"
#include "data/image.h"
#include "data/transform.h"
#include "launch/commands.h"
#include "launch/image_input.h"
#include "launch/model_file.h"

namespace qm {
namespace {

std::vector<double> softmax(const std::vector<double>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> result;
  for (const double logit : logits) result.push_back(std::exp(logit - largest));
  const double sum = std::accumulate(result.begin(), result.end(), 0.0);
  for (double& probability : result) probability /= sum;
  return result;
}

void print_top5(const std::vector<double>& probabilities, const std::vector<std::string>& class_names) {
  std::vector<std::size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return probabilities[a] > probabilities[b]; });
  for (std::size_t i = 0; i < order.size() && i < 5; ++i) {
    const std::string name = order[i] < class_names.size() ? class_names[order[i]] : concat("class ", order[i]);
    std::printf("  %6.2f%%  %s\n", 100 * probabilities[order[i]], name.c_str());
  }
}

}  // namespace

int run_predict(std::span<const std::string> arguments, const Environment& environment) {
  CommandLine line("predict", "Classifies image files: the five likeliest classes with their probabilities.");
  std::string file, weights, device = "auto";
  std::vector<std::string> images;
  line.required_option("checkpoint", "FILE", file, "a checkpoint of quadmamba train");
  line.choice("weights", {"ema", "model"}, weights, "which weights; by default ema where there is one");
  line.choice("device", {"auto", "cpu", "cuda"}, device, "where to compute");
  line.positionals("IMAGE", images, "JPEG or PNG files");
  if (!line.parse(arguments)) return 0;

  const ModelFile model = load_model_file(file, weights, device, environment);
  for (const auto& image : images) {
    const Tensor input = load_image_input(image, model.recipe).to(model.network->device());
    const Tensor logits = (*model.network->model)(input, ForwardContext{});
    std::printf("%s\n", image.c_str());
    print_top5(softmax(logits.to(DType::kFloat64).to_vector<double>()), model.checkpoint.class_names);
  }
  return 0;
}

}  // namespace qm
