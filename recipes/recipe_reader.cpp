#include "recipes/recipe_reader.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/base/error.h"
#include "recipes/recipe_fields.h"

namespace qm {
namespace {

// ---- what was expected, in words ------------------------------------------------------------------------------------

/// For a value that is not in it.
std::string words(const IntegerRange& range, std::int64_t value) {
  if (range.high != kLargestCount) return concat(range.low, " to ", range.high);
  return value < range.low ? concat("at least ", range.low) : concat("at most ", range.high);
}

std::string words(const RealRange& range) {
  if (range.low == -kLargestReal) return "a finite number";
  if (range.high == kLargestReal)
    return concat("a finite number ", range.low_open ? "above " : "of at least ", range.low);
  return concat("a number in ", range.low_open ? '(' : '[', range.low, ", ", range.high, range.high_open ? ')' : ']');
}

std::string words(Choices choices) {
  std::string text;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) text += i + 1 == choices.size() ? " or " : ", ";
    text += toml_text(choices[i]);
  }
  return text;
}

bool holds(const IntegerRange& range, std::int64_t value) {
  return range.low <= value && value <= range.high;
}

bool holds(const RealRange& range, double value) {
  const bool above = range.low_open ? value > range.low : value >= range.low;
  const bool below = range.high_open ? value < range.high : value <= range.high;
  return above && below;
}

// ---- reading one field ----------------------------------------------------------------------------------------------

class FieldReader {
 public:
  explicit FieldReader(const TomlDocument& document) : document_(document) {}

  template <class T, class... Allowed>
  void field(const char* key, T& value, const Allowed&... allowed) {
    if (const TomlEntry* entry = document_.find(key)) read(*entry, value, allowed...);
  }

  template <class T, class Allowed>
  void required(const char* key, T& value, const Allowed& allowed) {
    read(required_entry(key), value, allowed);
  }

  template <class T, class Allowed>
  void alternative(bool, const char* key, T& value, const Allowed& allowed) {
    field(key, value, allowed);
  }

  /// One number for a square, or [height, width].
  void image_size(const char* key, std::int64_t& height, std::int64_t& width, const IntegerRange& range) {
    const TomlEntry& entry = required_entry(key);
    if (entry.value.as<std::int64_t>()) {
      read(entry, height, range);
      width = height;
      return;
    }
    const auto* pair = entry.value.as<TomlValue::Array>();
    if (!pair || pair->size() != 2) fail(entry, "integer or [height, width]", entry.value.description());
    height = integer(entry, (*pair)[0], range);
    width = integer(entry, (*pair)[1], range);
  }

 private:
  const TomlEntry& required_entry(const char* key) const {
    const TomlEntry* entry = document_.find(key);
    QM_CHECK(entry, ConfigError, document_.origin(), ": missing key '", key, "'");
    return *entry;
  }

  [[noreturn]] static void fail(const TomlEntry& entry, const std::string& expected, const std::string& got) {
    throw ConfigError(concat(entry.where, ": ", entry.key, ": expected ", expected, ", got ", got));
  }

  static std::int64_t integer(const TomlEntry& entry, const TomlValue& value, const IntegerRange& range) {
    const std::int64_t* number = value.as<std::int64_t>();
    if (!number) fail(entry, "integer", value.description());
    if (!holds(range, *number)) fail(entry, words(range, *number), value.text());
    return *number;
  }

  static double real(const TomlEntry& entry, const TomlValue& value, const RealRange& range) {
    const std::int64_t* whole = value.as<std::int64_t>();
    const double* number = value.as<double>();
    if (!whole && !number) fail(entry, "number", value.description());
    const double result = whole ? static_cast<double>(*whole) : *number;
    if (!holds(range, result)) fail(entry, words(range), value.text());
    return result;
  }

  static const std::string& string(const TomlEntry& entry) {
    const std::string* text = entry.value.as<std::string>();
    if (!text) fail(entry, "string", entry.value.description());
    return *text;
  }

  static const TomlValue::Array& array(const TomlEntry& entry, std::size_t size) {
    const auto* elements = entry.value.as<TomlValue::Array>();
    if (!elements) fail(entry, concat("array of ", size), entry.value.description());
    if (elements->size() != size) fail(entry, concat("array of ", size), concat("array of ", elements->size()));
    return *elements;
  }

  static void read(const TomlEntry& entry, std::int64_t& value, const IntegerRange& range) {
    value = integer(entry, entry.value, range);
  }
  static void read(const TomlEntry& entry, std::uint64_t& value) {
    constexpr IntegerRange kSeeds{0, std::numeric_limits<std::int64_t>::max()};  // all that TOML can write
    value = static_cast<std::uint64_t>(integer(entry, entry.value, kSeeds));
  }
  static void read(const TomlEntry& entry, double& value, const RealRange& range) {
    value = real(entry, entry.value, range);
  }
  static void read(const TomlEntry& entry, bool& value) {
    const bool* flag = entry.value.as<bool>();
    if (!flag) fail(entry, "true or false", entry.value.description());
    value = *flag;
  }
  static void read(const TomlEntry& entry, std::string& value) { value = string(entry); }
  static void read(const TomlEntry& entry, std::string& value, Choices choices) {
    value = string(entry);
    if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
      fail(entry, words(choices), entry.value.text());
    }
  }
  template <std::size_t kSize>
  static void read(const TomlEntry& entry, std::array<double, kSize>& values, const RealRange& range) {
    const TomlValue::Array& elements = array(entry, kSize);
    for (std::size_t i = 0; i < kSize; ++i) values[i] = real(entry, elements[i], range);
  }
  template <std::size_t kSize>
  static void read(const TomlEntry& entry, std::array<std::int64_t, kSize>& values, const IntegerRange& range) {
    const TomlValue::Array& elements = array(entry, kSize);
    for (std::size_t i = 0; i < kSize; ++i) values[i] = integer(entry, elements[i], range);
  }
  template <class Enum>
  requires std::is_enum_v<Enum>
  static void read(const TomlEntry& entry, Enum& value) {
    std::vector<std::string_view> names;
    for (const auto& named : EnumNames<Enum>::value) names.push_back(named.first);
    read(entry, value, Choices(names));
  }
  /// Of the names of the enumeration, the `choices`.
  template <class Enum>
  requires std::is_enum_v<Enum>
  static void read(const TomlEntry& entry, Enum& value, Choices choices) {
    std::string text;
    read(entry, text, choices);
    for (const auto& [name, candidate] : EnumNames<Enum>::value) {
      if (name == text) value = candidate;
    }
  }

  const TomlDocument& document_;
};

// ---- unknown keys ---------------------------------------------------------------------------------------------------

/// Collects the keys of visit_fields, and their tables.
struct KnownKeys {
  std::vector<std::string> keys;
  std::vector<std::string> tables;

  template <class... Rest>
  void field(const char* key, const Rest&...) {
    add(key);
  }
  template <class... Rest>
  void required(const char* key, const Rest&...) {
    add(key);
  }
  template <class... Rest>
  void alternative(bool, const char* key, const Rest&...) {
    add(key);
  }
  template <class... Rest>
  void image_size(const char* key, const Rest&...) {
    add(key);
  }

  void add(const std::string& key) {
    keys.push_back(key);
    const auto dot = key.find('.');
    if (dot == std::string::npos) return;
    const std::string table = key.substr(0, dot);
    if (tables.empty() || tables.back() != table) tables.push_back(table);
  }
};

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Levenshtein's distance: the fewest insertions, deletions and replacements that lead from a to b.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

std::string_view last_part(std::string_view key) {
  return key.substr(key.rfind('.') + 1);
}

/// The known name that was most likely meant: the same key of another table, else the closest spelling, if close.
std::optional<std::string> likely_meant(const std::string& name, const std::vector<std::string>& known) {
  for (const std::string& candidate : known) {
    if (last_part(candidate) == last_part(name)) return candidate;
  }
  const auto closest = std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
    return edit_distance(name, a) < edit_distance(name, b);
  });
  const std::size_t tolerated = std::max<std::size_t>(2, last_part(name).size() / 3);
  if (edit_distance(name, *closest) > tolerated) return std::nullopt;
  return *closest;
}

[[noreturn]] void fail_unknown(const TomlEntry& entry, const char* what, const std::vector<std::string>& known) {
  const auto meant = likely_meant(entry.key, known);
  throw ConfigError(concat(entry.where, ": unknown ", what, " '", entry.key, "'",
                           meant ? concat(" (did you mean '", *meant, "'?)") : std::string()));
}

void check_keys_are_known(const TomlDocument& document) {
  KnownKeys known;
  Recipe recipe;
  visit_fields(recipe, known);
  for (const TomlEntry& entry : document.entries()) {
    const bool is_table = entry.value.as<TomlTable>() != nullptr;
    if (contains(known.keys, entry.key)) continue;
    if (contains(known.tables, entry.key)) {
      QM_CHECK(is_table, ConfigError, entry.where, ": ", entry.key, ": expected table, got ",
               entry.value.description());
      continue;
    }
    if (is_table) fail_unknown(entry, "table", known.tables);
    fail_unknown(entry, "key", known.keys);
  }
}

}  // namespace

void read_fields(const TomlDocument& document, Recipe& recipe) {
  check_keys_are_known(document);
  FieldReader reader(document);
  visit_fields(recipe, reader);
}

}  // namespace qm
