#include "data/glyphs.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <numbers>

#include "kernels/base/error.h"
#include "kernels/base/philox.h"

namespace qm {
namespace {

namespace fs = std::filesystem;

constexpr int kJpegQuality = 92;
constexpr const char* kBoxesFile = "boxes.csv";
constexpr const char* kBoxesHeader = "file,top,left,height,width";

struct Point {
  double x = 0, y = 0;
};

using Color = std::array<double, 3>;
using Canvas = std::vector<Color>;  // (kGlyphImageSize, kGlyphImageSize), values 0 to 255

// ---- random numbers -------------------------------------------------------------------------------------------------

std::uint32_t hash_name(std::string_view name) {  // FNV-1a
  std::uint32_t hash = 2166136261u;
  for (const unsigned char letter : name) hash = (hash ^ letter) * 16777619u;
  return hash;
}

/// The random numbers of one image, in the order in which they are asked for.
class Dice {
 public:
  Dice(std::uint64_t seed, std::string_view split, std::uint32_t index)
      : seed_(seed), split_(hash_name(split)), index_(index) {}

  double uniform(double low, double high) { return low + (high - low) * uniform_open(next_word()); }
  /// 0 … bound − 1.
  std::int64_t below(std::int64_t bound) { return static_cast<std::int64_t>(uniform(0, static_cast<double>(bound))); }
  bool coin() { return uniform(0, 1) < 0.5; }

 private:
  std::uint32_t next_word() {
    if (used_ == 4) {
      block_ = philox(seed_, RandomPurpose::kSynthetic, split_, 0, index_, draw_++);
      used_ = 0;
    }
    return block_.word[used_++];
  }

  std::uint64_t seed_;
  std::uint32_t split_, index_, draw_ = 0;
  PhiloxBlock block_{};
  int used_ = 4;
};

// ---- patterns: what fills a glyph, between −1 and 1, as a function of the place in pixels ---------------------------

/// Stripes that change along the direction `angle` (radians).
double stripes(Point p, double angle, double period) {
  return std::sin(2 * std::numbers::pi / period * (p.x * std::cos(angle) + p.y * std::sin(angle)));
}

double checker(Point p) {
  return stripes(p, 0, 6) * stripes(p, std::numbers::pi / 2, 6);
}

double rings(Point p) {
  return std::sin(2 * std::numbers::pi / 5 * std::hypot(p.x, p.y));
}

template <int eighths, int period>
double striped(Point p) {
  return stripes(p, std::numbers::pi * eighths / 8, period);
}

struct GlyphClass {
  std::string_view name;
  double (*pattern)(Point);
};

constexpr std::array kClasses{
    GlyphClass{"checker", checker},
    GlyphClass{"falling", striped<6, 4>},
    GlyphClass{"falling_wide", striped<6, 8>},
    GlyphClass{"horizontal", striped<4, 4>},
    GlyphClass{"horizontal_wide", striped<4, 8>},
    GlyphClass{"rings", rings},
    GlyphClass{"rising", striped<2, 4>},
    GlyphClass{"rising_wide", striped<2, 8>},
    GlyphClass{"vertical", striped<0, 4>},
    GlyphClass{"vertical_wide", striped<0, 8>},
};

// ---- drawing --------------------------------------------------------------------------------------------------------

template <class Visit>
void for_each_pixel(Canvas& canvas, Visit visit) {
  for (std::int64_t y = 0; y < kGlyphImageSize; ++y) {
    for (std::int64_t x = 0; x < kGlyphImageSize; ++x) {
      const Point center{static_cast<double>(x) + 0.5, static_cast<double>(y) + 0.5};
      visit(canvas[static_cast<std::size_t>(y * kGlyphImageSize + x)], center);
    }
  }
}

Color random_color(Dice& dice, double low, double high) {
  Color color;
  for (double& channel : color) channel = dice.uniform(low, high);
  return color;
}

void add_grating(Canvas& canvas, Dice& dice) {
  const double angle = dice.uniform(0, std::numbers::pi);
  const double frequency = 2 * std::numbers::pi / dice.uniform(4, 24);
  const double phase = dice.uniform(0, 2 * std::numbers::pi);
  const Color amplitude = random_color(dice, -20, 20);
  const Point wave{frequency * std::cos(angle), frequency * std::sin(angle)};
  for_each_pixel(canvas, [&](Color& pixel, Point at) {
    const double value = std::sin(wave.x * at.x + wave.y * at.y + phase);
    for (int channel = 0; channel < 3; ++channel) pixel[channel] += amplitude[channel] * value;
  });
}

void add_noise(Canvas& canvas, Dice& dice) {
  const double amplitude = dice.uniform(6, 22);
  for_each_pixel(canvas, [&](Color& pixel, Point) {
    for (double& channel : pixel) channel += dice.uniform(-amplitude, amplitude);
  });
}

/// The two inks of an image, far enough apart to be seen on any background.
struct Inks {
  Color light, dark;
};

double mix(double from, double to, double weight) {
  return from + weight * (to - from);
}

void blend(Color& pixel, const Color& ink, double weight) {
  for (int channel = 0; channel < 3; ++channel) pixel[channel] = mix(pixel[channel], ink[channel], weight);
}

/// Distance in pixels to the segment between two points.
double distance_to(Point p, Point from, Point to) {
  const Point along{to.x - from.x, to.y - from.y};
  const double length2 = along.x * along.x + along.y * along.y;
  const double t = std::clamp(((p.x - from.x) * along.x + (p.y - from.y) * along.y) / length2, 0.0, 1.0);
  return std::hypot(p.x - from.x - t * along.x, p.y - from.y - t * along.y);
}

void draw_stroke(Canvas& canvas, Dice& dice, const Color& ink) {
  const Point from{dice.uniform(0, kGlyphImageSize), dice.uniform(0, kGlyphImageSize)};
  const double angle = dice.uniform(0, 2 * std::numbers::pi);
  const double length = dice.uniform(5, 12);
  const Point to{from.x + length * std::cos(angle), from.y + length * std::sin(angle)};
  const double half_width = dice.uniform(0.9, 1.6);
  for_each_pixel(canvas, [&](Color& pixel, Point at) {
    blend(pixel, ink, std::clamp(0.5 + half_width - distance_to(at, from, to), 0.0, 1.0));  // edges one pixel soft
  });
}

GlyphBox random_box(Dice& dice) {
  const std::int64_t size = 16 + dice.below(5);
  const std::int64_t top = dice.below(kGlyphImageSize - size + 1);
  const std::int64_t left = dice.below(kGlyphImageSize - size + 1);
  return {top, left, size, size};
}

/// A disc filled with the class's pattern, tilted a little, its phase and polarity random.
void draw_glyph_in(Canvas& canvas, Dice& dice, const Inks& inks, const GlyphBox& box, const GlyphClass& glyph) {
  const double radius = static_cast<double>(box.height) / 2;
  const Point center{static_cast<double>(box.left) + radius, static_cast<double>(box.top) + radius};
  const double tilt = dice.uniform(-0.12, 0.12);
  const Point phase{dice.uniform(-4, 4), dice.uniform(-4, 4)};
  const double polarity = dice.coin() ? 1 : -1;
  for_each_pixel(canvas, [&](Color& pixel, Point at) {
    const Point offset{at.x - center.x, at.y - center.y};
    const double inside = std::clamp(0.5 + radius - std::hypot(offset.x, offset.y), 0.0, 1.0);
    const Point local{std::cos(tilt) * offset.x + std::sin(tilt) * offset.y + phase.x,
                      std::cos(tilt) * offset.y - std::sin(tilt) * offset.x + phase.y};
    const double light = std::clamp(0.5 + polarity * glyph.pattern(local), 0.0, 1.0);
    blend(pixel, inks.dark, inside);
    blend(pixel, inks.light, inside * light);
  });
}

Image to_image(const Canvas& canvas) {
  Image image{kGlyphImageSize, kGlyphImageSize, {}};
  image.pixels.reserve(canvas.size() * 3);
  for (const Color& pixel : canvas) {
    for (const double channel : pixel) {
      image.pixels.push_back(static_cast<std::uint8_t>(std::lround(std::clamp(channel, 0.0, 255.0))));
    }
  }
  return image;
}

// ---- files ----------------------------------------------------------------------------------------------------------

std::string file_name(std::uint32_t index) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%06u.jpg", index);
  return concat(kClasses[index % kClasses.size()].name, "/", text.data());
}

void write_bytes(const fs::path& path, const char* bytes, std::size_t count) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes, static_cast<std::streamsize>(count));
  file.close();
  QM_CHECK(file.good(), IoError, path.string(), ": cannot write: ", std::strerror(errno));
}

/// Writes image `index` below `folder`; returns its line of boxes.csv.
std::string write_image(const fs::path& folder, const std::string& split, std::uint64_t seed, std::uint32_t index) {
  const GlyphImage glyph = draw_glyph(seed, split, index);
  const std::vector<std::uint8_t> jpeg = encode_jpeg(glyph.image, kJpegQuality);
  const std::string name = file_name(index);
  write_bytes(folder / name, reinterpret_cast<const char*>(jpeg.data()), jpeg.size());
  const GlyphBox& box = glyph.box;
  return concat(name, ",", box.top, ",", box.left, ",", box.height, ",", box.width, "\n");
}

void write_split(const fs::path& folder, const std::string& split, std::int64_t count, std::uint64_t seed) {
  for (const GlyphClass& shape : kClasses) fs::create_directories(folder / shape.name);
  std::vector<std::string> lines(static_cast<std::size_t>(count));
  std::exception_ptr failure;  // an exception must not leave the parallel loop
#pragma omp parallel for schedule(dynamic, 16)
  for (std::int64_t index = 0; index < count; ++index) {
    try {
      lines[static_cast<std::size_t>(index)] = write_image(folder, split, seed, static_cast<std::uint32_t>(index));
    } catch (...) {
#pragma omp critical(qm_glyphs_failure)
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);

  std::string boxes = concat(kBoxesHeader, "\n");
  for (const std::string& line : lines) boxes += line;
  write_bytes(folder / kBoxesFile, boxes.data(), boxes.size());
}

/// Parses "class/file.jpg,top,left,height,width"; false unless it is exactly that.
bool parse_location(const std::string& line, GlyphLocation& location) {
  const std::size_t comma = line.find(',');
  if (comma == std::string::npos || comma == 0) return false;
  location.file = line.substr(0, comma);
  const char* next = line.data() + comma;
  const char* end = line.data() + line.size();
  for (std::int64_t* value : {&location.box.top, &location.box.left, &location.box.height, &location.box.width}) {
    if (next == end || *next != ',') return false;
    const auto [stop, error] = std::from_chars(next + 1, end, *value);
    if (error != std::errc()) return false;
    next = stop;
  }
  return next == end;
}

}  // namespace

std::span<const std::string_view> glyph_classes() {
  static constexpr auto names = [] {
    std::array<std::string_view, kClasses.size()> result;
    for (std::size_t label = 0; label < kClasses.size(); ++label) result[label] = kClasses[label].name;
    return result;
  }();
  return names;
}

GlyphImage draw_glyph(std::uint64_t seed, std::string_view split, std::uint32_t index) {
  Dice dice(seed, split, index);
  Canvas canvas(static_cast<std::size_t>(kGlyphImageSize * kGlyphImageSize), random_color(dice, 120, 136));
  const std::int64_t gratings = 3 + dice.below(3);
  for (std::int64_t count = 0; count < gratings; ++count) add_grating(canvas, dice);
  add_noise(canvas, dice);

  const Inks inks{random_color(dice, 205, 255), random_color(dice, 0, 50)};
  const std::int64_t strokes = dice.below(4);
  for (std::int64_t count = 0; count < strokes; ++count)
    draw_stroke(canvas, dice, dice.coin() ? inks.light : inks.dark);
  const GlyphBox box = random_box(dice);
  draw_glyph_in(canvas, dice, inks, box, kClasses[index % kClasses.size()]);
  return {to_image(canvas), box};
}

void write_glyphs(const std::string& folder, const std::string& split, std::int64_t count, std::uint64_t seed) {
  QM_CHECK(count > 0 && count <= 1'000'000, ConfigError, "glyphs: ", split, ": expected 1 to 1000000 images, got ",
           count);
  const fs::path final_path = fs::path(folder) / split;
  const fs::path partial_path = final_path.string() + ".partial";
  QM_CHECK(!fs::exists(final_path), IoError, final_path.string(), ": exists already; remove it first");
  std::error_code ignored;
  try {
    fs::remove_all(partial_path);  // of an earlier, interrupted call
    write_split(partial_path, split, count, seed);
    fs::rename(partial_path, final_path);
  } catch (const fs::filesystem_error& error) {
    fs::remove_all(partial_path, ignored);
    throw IoError(concat(error.path1().string(), ": cannot write: ", error.code().message()));
  } catch (...) {
    fs::remove_all(partial_path, ignored);
    throw;
  }
}

std::vector<GlyphLocation> read_glyph_locations(const std::string& folder) {
  const std::string path = (fs::path(folder) / kBoxesFile).string();
  std::ifstream file(path);
  QM_CHECK(file.good(), IoError, path, ": cannot open");
  std::string line;
  QM_CHECK(std::getline(file, line) && line == kBoxesHeader, IoError, path, ":1: expected '", kBoxesHeader, "'");
  std::vector<GlyphLocation> locations;
  while (std::getline(file, line)) {
    GlyphLocation location;
    QM_CHECK(parse_location(line, location), IoError, path, ":", locations.size() + 2,
             ": expected class/file.jpg,top,left,height,width, got '", line, "'");
    locations.push_back(location);
  }
  return locations;
}

}  // namespace qm
