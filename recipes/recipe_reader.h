// From a TOML document to the fields of a recipe.
#pragma once

#include "recipes/recipe.h"
#include "recipes/toml_document.h"

namespace qm {

/// Sets the fields whose keys the document holds. Throws ConfigError on an unknown key or table, a wrong type, a value
/// out of its range, or a missing required key.
void read_fields(const TomlDocument& document, Recipe& recipe);

/// Throws ConfigError, naming the place of a key that takes part, if values that are fine alone cannot go together.
/// Expects a recipe that read_fields has filled.
void check_combinations(const TomlDocument& document, const Recipe& recipe);

}  // namespace qm
