#include "recipes/rand_augment_text.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <vector>

#include "kernels/base/error.h"

namespace qm {
namespace {

constexpr std::int64_t kMostLayers = 100;
constexpr std::int64_t kLargestLevel = 1000;
constexpr double kUniformAbove = 100;  // a deviation that means another distribution

[[noreturn]] void fail(std::string_view part, const char* expected) {
  throw ConfigError(concat("part '", part, "': expected ", expected));
}

std::int64_t whole(std::string_view part, std::string_view number, std::int64_t low, std::int64_t high) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size()) fail(part, "a whole number");
  if (value < low || value > high) throw ConfigError(concat("part '", part, "': expected ", low, " to ", high));
  return value;
}

double real(std::string_view part, std::string_view number) {
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size()) fail(part, "a number");
  return value;
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t dash = text.find('-');
    parts.push_back(text.substr(0, dash));
    if (dash == std::string_view::npos) return parts;
    text.remove_prefix(dash + 1);
  }
}

void read_part(std::string_view part, std::string_view key, std::string_view number, RandAugmentText& result) {
  if (key == "m") {
    result.magnitude = whole(part, number, 0, kLargestLevel);
  } else if (key == "n") {
    result.layers = whole(part, number, 0, kMostLayers);
  } else if (key == "p") {
    result.probability = real(part, number);
    if (result.probability > 1) fail(part, "0 to 1");
  } else if (key == "mstd") {
    const double deviation = real(part, number);
    result.magnitude_std = deviation > kUniformAbove ? std::numeric_limits<double>::infinity() : deviation;
  } else if (key == "mmax") {
    const std::int64_t highest = whole(part, number, 0, kLargestLevel);
    if (highest > 0) result.magnitude_max = highest;
  } else if (key == "inc") {
    // timm takes inc0 for inc1 too, which nobody means who writes it.
    if (whole(part, number, 0, std::numeric_limits<std::int64_t>::max()) == 0) fail(part, "inc1, or none");
    result.increasing = true;
  } else {
    fail(part, "one of m, n, p, mstd, mmax, inc with a number, or t with a name");
  }
}

}  // namespace

RandAugmentText parse_rand_augment(std::string_view text) {
  RandAugmentText result;
  const std::vector<std::string_view> parts = split(text);
  if (parts.front() != "rand") fail(parts.front(), "'rand'");
  std::vector<std::string_view> seen;
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::string_view part = parts[i];
    const bool names_set = part.starts_with('t');
    const std::size_t digit = names_set ? 1 : std::min(part.find_first_of("0123456789"), part.size());
    const std::string_view key = part.substr(0, digit), value = part.substr(digit);
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) fail(part, "each part once");
    seen.push_back(key);
    if (names_set) {
      if (value != "weights" && value != "3a" && value != "3aw") fail(part, "tweights, t3a or t3aw");
      result.set = value;
    } else {
      read_part(part, key, value, result);
    }
  }
  if ((result.set == "weights" || result.set == "3aw") && result.layers > 14) {
    throw ConfigError("a weighted set has no operation twice in an image: expected at most n14");
  }
  return result;
}

}  // namespace qm
