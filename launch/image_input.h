// One image file as the network's input, by the evaluation transform.
#pragma once

#include <string>

#include "autograd/tensor.h"
#include "recipes/recipe.h"

namespace qm {

/// (1, H, W, 3), normalised, in the recipe's master dtype. Throws IoError naming the file and what is wrong with it.
Tensor load_image_input(const std::string& file, const Recipe& recipe);

}  // namespace qm
