#include "launch/image_input.h"

#include "data/file.h"
#include "data/image.h"
#include "launch/factory.h"

namespace qm {
namespace {

Image decode_file(const std::string& file) {
  const std::vector<std::uint8_t> bytes = read_file(file);
  try {
    return decode_image(bytes);
  } catch (const Error& error) {
    throw IoError(concat(file, ": ", error.what()));
  }
}

}  // namespace

Tensor load_image_input(const std::string& file, const Recipe& recipe) {
  const Image image = decode_file(file);
  const std::int64_t height = recipe.model.height, width = recipe.model.width;
  const Tensor pixels = Tensor::empty({1, height, width, 3}, DType::kUInt8);
  transform_eval(image, loader_config(recipe).eval, height, width, pixels.data<std::uint8_t>());
  return normalize_images(pixels, normalization(recipe), activation_dtype(recipe));
}

}  // namespace qm
