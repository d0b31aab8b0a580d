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

// ---- shapes: signed distance to the outline, negative inside, in units of half the glyph's size; y points down
// -------

double rectangle(Point p, Point center, double half_width, double half_height) {
  return std::max(std::abs(p.x - center.x) - half_width, std::abs(p.y - center.y) - half_height);
}

double segment(Point p, Point from, Point to, double half_width) {
  const Point along{to.x - from.x, to.y - from.y};
  const double length2 = along.x * along.x + along.y * along.y;
  const double t = std::clamp(((p.x - from.x) * along.x + (p.y - from.y) * along.y) / length2, 0.0, 1.0);
  return std::hypot(p.x - from.x - t * along.x, p.y - from.y - t * along.y) - half_width;
}

double bars(Point p) {
  return std::min(
      {rectangle(p, {0, -0.72}, 0.9, 0.21), rectangle(p, {0, 0}, 0.9, 0.21), rectangle(p, {0, 0.72}, 0.9, 0.21)});
}

double checker(Point p) {
  return std::min(rectangle(p, {-0.45, -0.45}, 0.45, 0.45), rectangle(p, {0.45, 0.45}, 0.45, 0.45));
}

double chevron(Point p) {
  return std::min(segment(p, {-0.7, 0.5}, {0, -0.5}, 0.26), segment(p, {0, -0.5}, {0.7, 0.5}, 0.26));
}

double plus(Point p) {
  return std::min(rectangle(p, {}, 0.95, 0.27), rectangle(p, {}, 0.27, 0.95));
}

double cross(Point p) {
  const double scale = std::numbers::sqrt2 / 2;
  return plus({scale * (p.x + p.y), scale * (p.x - p.y)});
}

double disc(Point p) {
  return std::hypot(p.x, p.y) - 0.85;
}

double hourglass(Point p) {
  return std::max(std::abs(p.y) - 0.9, 0.75 * (std::abs(p.x) - 0.85 * std::abs(p.y) - 0.12));
}

double ring(Point p) {
  return std::abs(std::hypot(p.x, p.y) - 0.7) - 0.24;
}

double tee(Point p) {
  return std::min(rectangle(p, {0, -0.65}, 0.9, 0.25), rectangle(p, {0, 0.1}, 0.25, 0.85));
}

double triangle(Point p) {
  return std::max(p.y - 0.75, 0.87 * std::abs(p.x) - 0.5 * (p.y + 0.95));
}

struct GlyphClass {
  std::string_view name;
  double (*distance)(Point);
};

constexpr std::array kClasses{
    GlyphClass{"bars", bars},         GlyphClass{"checker", checker}, GlyphClass{"chevron", chevron},
    GlyphClass{"cross", cross},       GlyphClass{"disc", disc},       GlyphClass{"hourglass", hourglass},
    GlyphClass{"plus", plus},         GlyphClass{"ring", ring},       GlyphClass{"tee", tee},
    GlyphClass{"triangle", triangle},
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
  const Color amplitude = random_color(dice, -24, 24);
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

/// What glyph and strokes are drawn with: a bright fill with a dark rim or the reverse, seen on any background.
struct Ink {
  Color fill, rim;
};

Ink random_ink(Dice& dice) {
  const bool bright = dice.coin();
  const Color light = random_color(dice, 205, 255);
  const Color dark = random_color(dice, 0, 50);
  return bright ? Ink{light, dark} : Ink{dark, light};
}

/// `distance` is in pixels; edges are one pixel soft.
void blend(Color& pixel, double distance, const Ink& ink) {
  constexpr double kRimWidth = 1.0;
  constexpr double kRimOpacity = 0.6;
  const double rim = kRimOpacity * std::clamp(0.5 + kRimWidth - distance, 0.0, 1.0);
  const double fill = std::clamp(0.5 - distance, 0.0, 1.0);
  for (int channel = 0; channel < 3; ++channel) {
    pixel[channel] += rim * (ink.rim[channel] - pixel[channel]);
    pixel[channel] += fill * (ink.fill[channel] - pixel[channel]);
  }
}

void draw_stroke(Canvas& canvas, Dice& dice, const Ink& ink) {
  const Point from{dice.uniform(0, kGlyphImageSize), dice.uniform(0, kGlyphImageSize)};
  const double angle = dice.uniform(0, 2 * std::numbers::pi);
  const double length = dice.uniform(5, 12);
  const Point to{from.x + length * std::cos(angle), from.y + length * std::sin(angle)};
  const double half_width = dice.uniform(0.9, 1.6);
  for_each_pixel(canvas, [&](Color& pixel, Point at) { blend(pixel, segment(at, from, to, half_width), ink); });
}

GlyphBox random_box(Dice& dice) {
  const std::int64_t size = 15 + dice.below(5);
  const std::int64_t top = dice.below(kGlyphImageSize - size + 1);
  const std::int64_t left = dice.below(kGlyphImageSize - size + 1);
  return {top, left, size, size};
}

void draw_shape(Canvas& canvas, Dice& dice, const Ink& ink, const GlyphBox& box, const GlyphClass& shape) {
  constexpr double kRim = 1;  // pixels that the rim takes inside the box
  const double half_size = static_cast<double>(box.height) / 2 - kRim;
  const Point center{static_cast<double>(box.left) + static_cast<double>(box.width) / 2,
                     static_cast<double>(box.top) + static_cast<double>(box.height) / 2};
  const double tilt = dice.uniform(-0.15, 0.15);
  const double cosine = std::cos(tilt) / half_size;
  const double sine = std::sin(tilt) / half_size;
  for_each_pixel(canvas, [&](Color& pixel, Point at) {
    const Point offset{at.x - center.x, at.y - center.y};
    const Point local{cosine * offset.x + sine * offset.y, cosine * offset.y - sine * offset.x};
    blend(pixel, half_size * shape.distance(local), ink);
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
  Canvas canvas(static_cast<std::size_t>(kGlyphImageSize * kGlyphImageSize), random_color(dice, 75, 180));
  const std::int64_t gratings = 3 + dice.below(3);
  for (std::int64_t count = 0; count < gratings; ++count) add_grating(canvas, dice);
  add_noise(canvas, dice);

  const Ink ink = random_ink(dice);
  const std::int64_t strokes = 4 + dice.below(4);
  for (std::int64_t count = 0; count < strokes; ++count) draw_stroke(canvas, dice, ink);
  const GlyphBox box = random_box(dice);
  draw_shape(canvas, dice, ink, box, kClasses[index % kClasses.size()]);
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
