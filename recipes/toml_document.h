// TomlDocument: a TOML text as a flat list of dotted keys that remember where they came from, with the command line's
// overrides applied. Knows TOML, but no recipe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace qm {

/// A value that TOML knows and recipes do not: dates and times.
struct TomlDate {};
/// Marks a table. Its content follows as entries of its own.
struct TomlTable {};

struct TomlValue {
  using Array = std::vector<TomlValue>;
  std::variant<bool, std::int64_t, double, std::string, Array, TomlDate, TomlTable> content;

  template <class T>
  const T* as() const {
    return std::get_if<T>(&content);
  }
  /// The value as TOML text; "array", "date" or "table" for what does not fit on a line.
  std::string text() const;
  /// The type's name and the text: `integer 5`, `string "x"`, `array`.
  std::string description() const;
};

struct TomlEntry {
  std::string key;  ///< "table.key"
  TomlValue value;
  std::string where;  ///< "file:line", or "--set table.key=value"
};

class TomlDocument {
 public:
  /// Parses `text`, then applies each override "table.key=value". A value that is not TOML is taken as a string.
  /// Throws ConfigError: "origin:line:column: …" for a syntax error, "--set …: …" for a malformed override.
  static TomlDocument parse(std::string_view text, const std::string& origin,
                            const std::vector<std::string>& overrides);

  /// Every table and key: those of the text in the order of their lines, then those only overrides brought.
  const std::vector<TomlEntry>& entries() const { return entries_; }
  /// The entry of a key, or null.
  const TomlEntry* find(std::string_view key) const;
  const std::string& origin() const { return origin_; }

 private:
  void apply_override(const std::string& setting);

  std::string origin_;
  std::vector<TomlEntry> entries_;
};

/// `text` as a quoted TOML string on one line.
std::string toml_text(std::string_view text);
/// The shortest TOML float that reads back as exactly this number.
std::string toml_text(double number);

}  // namespace qm
