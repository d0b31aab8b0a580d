#include "recipes/toml_document.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kernels/base/error.h"

namespace qm {
namespace {

TomlValue convert(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::boolean:
      return {*node.value_exact<bool>()};
    case toml::node_type::integer:
      return {*node.value_exact<std::int64_t>()};
    case toml::node_type::floating_point:
      return {*node.value_exact<double>()};
    case toml::node_type::string:
      return {*node.value_exact<std::string>()};
    case toml::node_type::table:
      return {TomlTable{}};
    case toml::node_type::array: {
      TomlValue::Array elements;
      for (const toml::node& element : *node.as_array()) elements.push_back(convert(element));
      return {std::move(elements)};
    }
    default:
      return {TomlDate{}};
  }
}

bool is_bare(std::string_view key) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !key.empty() && std::all_of(key.begin(), key.end(), allowed);
}

/// Quotes what is not bare, so that the key "train.epochs" in quotes is not taken for epochs of [train].
std::string join_keys(const std::string& table, std::string_view key) {
  const std::string part = is_bare(key) ? std::string(key) : toml_text(key);
  return table.empty() ? part : table + '.' + part;
}

struct LocatedEntry {
  toml::source_position position;
  TomlEntry entry;
};

void flatten(const toml::table& table, const std::string& path, const std::string& origin,
             std::vector<LocatedEntry>& out) {
  for (const auto& [key, node] : table) {
    const std::string dotted = join_keys(path, key.str());
    const toml::source_position position = key.source().begin;
    out.push_back({position, {dotted, convert(node), concat(origin, ":", position.line)}});
    if (node.is_table()) flatten(*node.as_table(), dotted, origin, out);
  }
}

/// toml++ keeps tables sorted by name; messages follow the file.
std::vector<TomlEntry> entries_by_line(const toml::table& root, const std::string& origin) {
  std::vector<LocatedEntry> located;
  flatten(root, "", origin, located);
  std::stable_sort(located.begin(), located.end(),
                   [](const LocatedEntry& a, const LocatedEntry& b) { return a.position < b.position; });
  std::vector<TomlEntry> entries;
  for (LocatedEntry& item : located) entries.push_back(std::move(item.entry));
  return entries;
}

toml::table parse_table(std::string_view text, const std::string& origin) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    const toml::source_position at = error.source().begin;
    throw ConfigError(concat(origin, ":", at.line, ":", at.column, ": ", error.description()));
  }
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// The value of an override. Anything that is no TOML value is a string: a path or a word needs no quotes.
TomlValue parse_value(std::string_view text) {
  try {
    const toml::table table = toml::parse(concat("value = ", text));
    if (table.size() == 1) return convert(*table.get("value"));
  } catch (const toml::parse_error&) {
    // A string, below.
  }
  return {std::string(text)};
}

}  // namespace

TomlDocument TomlDocument::parse(std::string_view text, const std::string& origin,
                                 const std::vector<std::string>& overrides) {
  TomlDocument document;
  document.origin_ = origin;
  document.entries_ = entries_by_line(parse_table(text, origin), origin);
  for (const std::string& setting : overrides) document.apply_override(setting);
  return document;
}

const TomlEntry* TomlDocument::find(std::string_view key) const {
  const auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const TomlEntry& e) { return e.key == key; });
  return entry == entries_.end() ? nullptr : &*entry;
}

void TomlDocument::apply_override(const std::string& setting) {
  const std::string where = "--set " + setting;
  const auto equals = setting.find('=');
  const std::string_view key = trim(std::string_view(setting).substr(0, equals));
  const std::string_view text =
      equals == std::string::npos ? std::string_view() : trim(std::string_view(setting).substr(equals + 1));
  QM_CHECK(!key.empty() && !text.empty(), ConfigError, where, ": expected table.key=value");

  TomlEntry entry{std::string(key), parse_value(text), where};
  QM_CHECK(!entry.value.as<TomlTable>(), ConfigError, where, ": expected a single value, got a table");
  const auto present = std::find_if(entries_.begin(), entries_.end(), [&](const TomlEntry& e) { return e.key == key; });
  if (present != entries_.end()) {
    *present = std::move(entry);
  } else {
    entries_.push_back(std::move(entry));
  }
}

std::string toml_text(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string toml_text(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  char buffer[32];  // the longest shortest double has 24 characters
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, number);
  std::string text(buffer, result.ptr);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string TomlValue::text() const {
  if (const bool* flag = as<bool>()) return *flag ? "true" : "false";
  if (const std::int64_t* integer = as<std::int64_t>()) return std::to_string(*integer);
  if (const double* number = as<double>()) return toml_text(*number);
  if (const std::string* string = as<std::string>()) return toml_text(*string);
  if (as<Array>()) return "array";
  return as<TomlDate>() ? "date" : "table";
}

std::string TomlValue::description() const {
  if (as<bool>()) return "boolean " + text();
  if (as<std::int64_t>()) return "integer " + text();
  if (as<double>()) return "float " + text();
  if (as<std::string>()) return "string " + text();
  return text();
}

}  // namespace qm
