#include <string>

#include "recipes/recipe.h"
#include "recipes/recipe_fields.h"
#include "recipes/toml_document.h"

namespace qm {
namespace {

std::string value_text(std::int64_t value) {
  return std::to_string(value);
}
std::string value_text(bool value) {
  return value ? "true" : "false";
}
std::string value_text(std::uint64_t value) {
  return std::to_string(value);
}
std::string value_text(double value) {
  return toml_text(value);
}
std::string value_text(const std::string& value) {
  return toml_text(value);
}

template <class Enum>
requires std::is_enum_v<Enum> std::string value_text(Enum value) {
  return toml_text(to_string(value));
}

template <class T, std::size_t kSize>
std::string value_text(const std::array<T, kSize>& values) {
  std::string text = "[";
  for (std::size_t i = 0; i < kSize; ++i) text += (i > 0 ? ", " : "") + value_text(values[i]);
  return text + "]";
}

class FieldWriter {
 public:
  template <class T, class... Allowed>
  void field(const std::string& key, const T& value, const Allowed&...) {
    const auto dot = key.find('.');
    if (dot != std::string::npos) enter_table(key.substr(0, dot));
    text_ += key.substr(dot == std::string::npos ? 0 : dot + 1) + " = " + value_text(value) + "\n";
  }

  template <class T, class Allowed>
  void required(const std::string& key, const T& value, const Allowed& allowed) {
    field(key, value, allowed);
  }

  template <class T, class Allowed>
  void alternative(bool given, const std::string& key, const T& value, const Allowed& allowed) {
    if (given) field(key, value, allowed);
  }

  void image_size(const std::string& key, std::int64_t height, std::int64_t width, const IntegerRange& range) {
    if (height == width) {
      field(key, height, range);
    } else {
      field(key, std::array{height, width}, range);
    }
  }

  const std::string& text() const { return text_; }

 private:
  void enter_table(const std::string& table) {
    if (table == table_) return;
    table_ = table;
    text_ += "\n[" + table + "]\n";
  }

  std::string text_;
  std::string table_;
};

}  // namespace

std::string Recipe::to_toml() const {
  FieldWriter writer;
  visit_fields(*this, writer);
  return writer.text();
}

}  // namespace qm
