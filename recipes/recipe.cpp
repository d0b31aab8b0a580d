#include "recipes/recipe.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "kernels/base/error.h"
#include "recipes/recipe_fields.h"
#include "recipes/recipe_reader.h"

namespace qm {
namespace {

/// Global batch at which base_learning_rate is the peak rate.
constexpr double kBaseBatch = 512;

struct Size {
  std::string_view name;
  std::int64_t dim;
  std::array<std::int64_t, 4> depths;
};
constexpr std::array<Size, kSizeNames.size()> kSizes{{{"nano", 16, {2, 2, 2, 2}},
                                                      {"lite", 48, {2, 2, 2, 2}},
                                                      {"tiny", 64, {2, 2, 2, 2}},
                                                      {"small", 96, {2, 2, 5, 2}},
                                                      {"base", 96, {2, 2, 15, 2}}}};

void apply_size(Recipe::Model& model) {
  for (const Size& size : kSizes) {
    if (size.name != model.size) continue;
    model.dim = size.dim;
    model.depths = size.depths;
  }
}

double rate_scale(const Recipe& recipe) {
  const bool scaled = recipe.optimizer.base_learning_rate > 0;
  return scaled ? static_cast<double>(recipe.train.global_batch) / kBaseBatch : 1.0;
}

std::string read_text(const std::string& file) {
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  std::string text;
  for (char part[4096]; stream.read(part, sizeof part) || stream.gcount() > 0;) {
    text.append(part, static_cast<std::size_t>(stream.gcount()));
  }
  QM_CHECK(stream.is_open() && !stream.bad(), IoError, file,
           ": cannot read the recipe: ", std::strerror(errno ? errno : EIO));
  return text;
}

template <class Enum>
std::string_view enum_name(Enum value) {
  for (const auto& [name, candidate] : EnumNames<Enum>::value) {
    if (candidate == value) return name;
  }
  return "?";
}

}  // namespace

double Recipe::peak_learning_rate() const {
  const bool scaled = optimizer.base_learning_rate > 0;
  return scaled ? optimizer.base_learning_rate * rate_scale(*this) : optimizer.learning_rate;
}

double Recipe::first_learning_rate() const {
  return schedule.warmup_learning_rate * rate_scale(*this);
}

double Recipe::last_learning_rate() const {
  return schedule.min_learning_rate * rate_scale(*this);
}

std::int64_t Recipe::Eval::short_side(std::int64_t input) const {
  return crop_pct > 0 ? static_cast<std::int64_t>(std::floor(static_cast<double>(input) / crop_pct)) : resize;
}

Recipe Recipe::load(const std::string& file, const std::vector<std::string>& overrides) {
  return parse(read_text(file), file, overrides);
}

Recipe Recipe::parse(std::string_view text, const std::string& origin, const std::vector<std::string>& overrides) {
  const TomlDocument document = TomlDocument::parse(text, origin, overrides);
  Recipe recipe;
  recipe.name = std::filesystem::path(origin).stem().string();
  read_fields(document, recipe);
  check_combinations(document, recipe);
  apply_size(recipe.model);
  return recipe;
}

std::string_view to_string(Precision precision) {
  return enum_name(precision);
}
std::string_view to_string(FineOrderKey order) {
  return enum_name(order);
}
std::string_view to_string(StemFilters sampling) {
  return enum_name(sampling);
}
std::string_view to_string(Resampling resampling) {
  return enum_name(resampling);
}
std::string_view to_string(NotFinite policy) {
  return enum_name(policy);
}

}  // namespace qm
