#include "data/glyphs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include "kernels/base/error.h"
#include "tests/support/damaged_file.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

constexpr std::size_t kClassCount = 10;

struct Samples {
  std::size_t features = 0;
  std::vector<float> values;  ///< (n, features), −0.5 to 0.5
  std::vector<std::size_t> labels;
};

std::size_t label_of(std::uint32_t index) {
  return index % kClassCount;
}

/// The pixels of images [0, count) of a split: whole images, or `crop`×`crop` squares centred on the glyph.
Samples collect(const char* split, std::uint32_t count, std::int64_t crop) {
  const bool whole = crop == kGlyphImageSize;
  Samples samples{static_cast<std::size_t>(crop * crop * 3), {}, {}};
  samples.values.resize(count * samples.features);
  samples.labels.resize(count);
#pragma omp parallel for
  for (std::uint32_t index = 0; index < count; ++index) {
    const GlyphImage glyph = draw_glyph(5, split, index);
    const auto start = [&](std::int64_t first, std::int64_t extent) {
      return whole ? 0 : std::clamp<std::int64_t>(first + extent / 2 - crop / 2, 0, kGlyphImageSize - crop);
    };
    const std::int64_t top = start(glyph.box.top, glyph.box.height);
    const std::int64_t left = start(glyph.box.left, glyph.box.width);
    float* row = &samples.values[index * samples.features];
    for (std::int64_t y = 0; y < crop; ++y) {
      const std::uint8_t* pixels = &glyph.image.pixels[((top + y) * kGlyphImageSize + left) * 3];
      for (std::int64_t x = 0; x < crop * 3; ++x) *row++ = static_cast<float>(pixels[x]) / 255.0f - 0.5f;
    }
    samples.labels[index] = label_of(index);
  }
  return samples;
}

/// Multinomial logistic regression by stochastic gradient descent with momentum.
class LogisticRegression {
 public:
  LogisticRegression(const Samples& samples, int epochs, float learning_rate)
      : features_(samples.features), weights_(kClassCount * (samples.features + 1)) {
    std::vector<float> velocity(weights_.size());
    for (int epoch = 0; epoch < epochs; ++epoch) {
      for (std::size_t first = 0; first + kBatch <= samples.labels.size(); first += kBatch) {
        const std::vector<float> gradient = mean_gradient(samples, first);
        for (std::size_t i = 0; i < weights_.size(); ++i) {
          velocity[i] = 0.9f * velocity[i] - learning_rate * gradient[i];
          weights_[i] += velocity[i];
        }
      }
    }
  }

  double accuracy(const Samples& samples) const {
    std::size_t correct = 0;
    for (std::size_t sample = 0; sample < samples.labels.size(); ++sample) {
      const std::vector<float> logits = logits_of(row_of(samples, sample));
      const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
      correct += static_cast<std::size_t>(best) == samples.labels[sample];
    }
    return static_cast<double>(correct) / static_cast<double>(samples.labels.size());
  }

 private:
  static constexpr std::size_t kBatch = 100;

  static const float* row_of(const Samples& samples, std::size_t sample) {
    return &samples.values[sample * samples.features];
  }

  const float* weights_of(std::size_t label) const { return &weights_[label * (features_ + 1)]; }

  std::vector<float> logits_of(const float* row) const {
    std::vector<float> logits(kClassCount);
    for (std::size_t label = 0; label < kClassCount; ++label) {
      const float* weights = weights_of(label);
      float sum = weights[features_];
#pragma omp simd reduction(+ : sum)
      for (std::size_t i = 0; i < features_; ++i) sum += weights[i] * row[i];
      logits[label] = sum;
    }
    return logits;
  }

  /// Of the loss over the samples [first, first + kBatch).
  std::vector<float> mean_gradient(const Samples& samples, std::size_t first) const {
    std::vector<float> gradient(weights_.size());
    for (std::size_t sample = first; sample < first + kBatch; ++sample) {
      const float* row = row_of(samples, sample);
      std::vector<float> errors = logits_of(row);  // becomes (soft-max − one-hot) / kBatch
      const float largest = *std::max_element(errors.begin(), errors.end());
      float total = 0;
      for (float& error : errors) total += error = std::exp(error - largest);
      for (std::size_t label = 0; label < kClassCount; ++label) {
        const float target = label == samples.labels[sample] ? 1.0f : 0.0f;
        const float error = (errors[label] / total - target) / static_cast<float>(kBatch);
        float* sums = &gradient[label * (features_ + 1)];
#pragma omp simd
        for (std::size_t i = 0; i < features_; ++i) sums[i] += error * row[i];
        sums[features_] += error;
      }
    }
    return gradient;
  }

  std::size_t features_;
  std::vector<float> weights_;  ///< (classes, features + 1), the last column the bias
};

std::vector<std::string> files_below(const std::filesystem::path& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(std::filesystem::relative(entry.path(), folder).string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(data, glyph_classes_are_sorted) {
  const auto names = glyph_classes();
  ASSERT_EQ(names.size(), kClassCount);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
}

TEST(data, glyph_depends_on_seed_split_and_index_alone) {
  const GlyphImage glyph = draw_glyph(1, "train", 7);
  EXPECT_EQ(draw_glyph(1, "train", 7).image.pixels, glyph.image.pixels);
  EXPECT_NE(draw_glyph(2, "train", 7).image.pixels, glyph.image.pixels);
  EXPECT_NE(draw_glyph(1, "val", 7).image.pixels, glyph.image.pixels);
  EXPECT_NE(draw_glyph(1, "train", 17).image.pixels, glyph.image.pixels);
}

// Strokes lie on both sides of every edge, so only averages tell: fill and rim of a glyph are far brighter or darker
// than the background.
TEST(data, glyph_lies_in_its_box) {
  double inside = 0, outside = 0;
  for (std::uint32_t index = 0; index < 200; ++index) {
    const GlyphImage glyph = draw_glyph(3, "train", index);
    const GlyphBox& box = glyph.box;
    ASSERT_GE(box.top, 0);
    ASSERT_GE(box.left, 0);
    ASSERT_LE(box.top + box.height, kGlyphImageSize);
    ASSERT_LE(box.left + box.width, kGlyphImageSize);
    double sums[2] = {}, counts[2] = {};
    for (std::int64_t y = 0; y < kGlyphImageSize; ++y) {
      for (std::int64_t x = 0; x < kGlyphImageSize; ++x) {
        const bool in_box = y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
        const std::uint8_t* pixel = &glyph.image.pixels[(y * kGlyphImageSize + x) * 3];
        sums[in_box] += std::abs((pixel[0] + pixel[1] + pixel[2]) / 3.0 - 127.5) > 80;
        ++counts[in_box];
      }
    }
    inside += sums[1] / counts[1] / 200;
    outside += sums[0] / counts[0] / 200;
  }
  EXPECT_GT(inside, 3 * outside);
  EXPECT_GT(inside, 0.2);
}

// Every quadrant holds a glyph's centre equally often: guessing one is right in a quarter of the images.
TEST(data, glyph_positions_are_uniform) {
  constexpr std::uint32_t kImages = 2000;
  double counts[4] = {};
  for (std::uint32_t index = 0; index < kImages; ++index) {
    const GlyphBox box = draw_glyph(4, "val", index).box;
    const bool lower = 2 * box.top + box.height >= kGlyphImageSize;
    const bool right = 2 * box.left + box.width >= kGlyphImageSize;
    ++counts[2 * lower + right];
  }
  for (const double count : counts) EXPECT_NEAR(count / kImages, 0.25, 0.04);  // 4 standard deviations
}

TEST(data, glyph_folders_have_the_same_bytes_for_the_same_seed) {
  const TemporaryFolder folder;
  write_glyphs(folder / "a", "train", 25, 1);
  write_glyphs(folder / "b", "train", 25, 1);
  const std::vector<std::string> files = files_below(folder / "a");
  ASSERT_EQ(files.size(), 26u);  // and boxes.csv
  ASSERT_EQ(files_below(folder / "b"), files);
  for (const std::string& file : files) {
    EXPECT_EQ(bytes_of_file(folder / ("a/" + file)), bytes_of_file(folder / ("b/" + file))) << file;
  }
}

TEST(data, glyph_locations_round_trip) {
  const TemporaryFolder folder;
  write_glyphs(folder / "glyphs", "val", 12, 9);
  const std::vector<GlyphLocation> locations = read_glyph_locations(folder / "glyphs/val");
  ASSERT_EQ(locations.size(), 12u);
  for (std::uint32_t index = 0; index < locations.size(); ++index) {
    const GlyphLocation& location = locations[index];
    const GlyphBox box = draw_glyph(9, "val", index).box;
    EXPECT_TRUE(location.file.starts_with(glyph_classes()[label_of(index)])) << location.file;
    EXPECT_TRUE(std::filesystem::exists(folder.path() / "glyphs/val" / location.file)) << location.file;
    EXPECT_EQ(location.box.top, box.top);
    EXPECT_EQ(location.box.left, box.left);
    EXPECT_EQ(location.box.height, box.height);
    EXPECT_EQ(location.box.width, box.width);
  }
}

TEST(data, glyph_locations_name_file_and_line_of_damage) {
  const TemporaryFolder folder;
  for (const char* row : {"disc/1.jpg,1,2,3", "disc/1.jpg,1,2,3,4,5", "disc/1.jpg,1,2,x,4", ",1,2,3,4", ""}) {
    std::ofstream(folder / "boxes.csv") << "file,top,left,height,width\ndisc/0.jpg,1,2,3,4\n" << row << "\n";
    try {
      read_glyph_locations(folder.path().string());
      ADD_FAILURE() << "accepted '" << row << "'";
    } catch (const IoError& error) {
      EXPECT_NE(std::string(error.what()).find("boxes.csv:3:"), std::string::npos) << error.what();
    }
  }
}

TEST(data, glyph_folder_is_never_overwritten_nor_half_written) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "glyphs/train");
  EXPECT_THROW(write_glyphs(folder / "glyphs", "train", 3, 0), IoError);
  EXPECT_TRUE(std::filesystem::is_empty(folder / "glyphs/train"));

  std::ofstream(folder / "file") << "not a folder";
  EXPECT_THROW(write_glyphs(folder / "file", "train", 3, 0), IoError);
  EXPECT_THROW(write_glyphs(folder / "glyphs", "val", 0, 0), ConfigError);
  EXPECT_FALSE(std::filesystem::exists(folder / "glyphs/val"));
}

TEST(data, glyph_folder_leaves_nothing_when_the_disk_is_full) {
  const TemporaryFolder folder;
  std::string error;
  {
    const FileSizeLimit limit(1000);  // no image is that small
    error = error_of([&] { write_glyphs(folder / "glyphs", "train", 20, 0); });
  }
  EXPECT_NE(error.find(".jpg: cannot write: "), std::string::npos) << error;
  EXPECT_TRUE(std::filesystem::is_empty(folder / "glyphs"));
}

// The point of these images: no weighted sum of pixels finds the class, even one that learns its training set by heart.
TEST(data, glyphs_need_more_than_a_logistic_regression) {
  const Samples train = collect("train", 3000, kGlyphImageSize);
  const Samples validation = collect("val", 1000, kGlyphImageSize);
  const LogisticRegression on_pixels(train, 8, 0.003f);
  EXPECT_GT(on_pixels.accuracy(train), 0.40);
  EXPECT_LT(on_pixels.accuracy(validation), 0.30);
}

}  // namespace
}  // namespace qm
